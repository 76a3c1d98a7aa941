"""What the report says of a study in words: what was searched, on what, and how to do it again."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna

from tuner.addresses import is_server
from tuner.config import NO_TRACKING
from tuner.findings.text import short
from tuner.next_commands import sync_command, ui_command, where_flags
from tuner.passwords import without_password
from tuner.record import results, schema
from tuner.record.sessions import read_sessions
from tuner.record.trials import TrialRecord

Facts = dict[str, str]
"""A label, and what stands beside it."""
_MOST_REASONS = 5


def data_facts(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Facts]:
    """Returns what was trained, and on what; `identity`: the study's attributes."""
    data: Facts = {"Data set": str(identity.get("dataset", "unknown"))}
    if settings.get("data_dir"):
        data["Folder"] = str(settings["data_dir"])
    for key, label in (("classes", "Classes"), ("images", "Training images")):
        if key in identity:
            data[label] = f"{identity[key]:,}"
    network: Facts = {
        "Backbone": str(identity.get("backbone", "unknown")),
        "Weights": str(identity.get("weights", "unknown")),
    }
    if settings.get("lite_weights"):
        network["Lite residuals"] = str(settings["lite_weights"])
    if "epochs" in identity:
        network["Epochs of a trial"] = str(identity["epochs"])
    return {"Data": data, "Network": network}


def search_facts(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> Facts:
    """Returns how it was searched."""
    facts: Facts = {"Space": str(identity.get("space", "unknown"))}
    facts["Objectives"] = str(identity.get("objectives", "accuracy and memory"))
    budget_mib = settings.get("memory_budget_mib")
    facts["Memory budget"] = "none" if budget_mib is None else f"{budget_mib:g} MiB"
    for key, label in (("sampler", "Sampler"), ("scheduler", "Scheduler"), ("seed", "Seed")):
        if key in settings:
            facts[label] = str(settings[key])
    if settings.get("settings"):
        facts["Set by hand"] = ", ".join(settings["settings"])
    if identity.get("fixed"):
        facts["Fixed by the space"] = ", ".join(f"{k} {short(v)}" for k, v in identity["fixed"].items())
    return facts


def date_facts(records: Sequence[TrialRecord]) -> Facts:
    """Returns when the first trial began and the last one ended, in the local time of who searched."""
    starts = [record.start for record in records if record.start]
    ends = [record.end for record in records if record.end]
    if not starts:
        return {}
    facts = {"First trial began": moment(min(starts))}
    if ends:
        facts["Last trial ended"] = moment(max(ends))
        facts["Between them"] = duration(max(ends) - min(starts))
    return facts


def moment(when: datetime) -> str:
    """Returns a date and a time to the minute."""
    return f"{when.day} {when:%B %Y, %H:%M}"


def duration(span: timedelta) -> str:
    """Returns a span of time in its two largest units."""
    seconds = round(span.total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def problems(study: optuna.Study, records: Sequence[TrialRecord]) -> list[str]:
    """Returns why configurations gave no accuracy, most frequent reasons first, a line each."""
    lines = []
    reasons = Counter(r.failure or "no reason recorded" for r in records if r.state == "failed")
    for reason, count in reasons.most_common(_MOST_REASONS):
        lines.append(f"{count} failed: {reason}")
    if len(reasons) > _MOST_REASONS:
        lines.append(
            f"{reasons.total() - sum(n for _, n in reasons.most_common(_MOST_REASONS))} failed otherwise"
        )
    out = sum(record.state == "infeasible" for record in records)
    if out:
        lines.append(f"{out} ran out of memory: others took their place")
    refused = [
        trial.user_attrs
        for trial in study.get_trials(deepcopy=False)
        if results.state_of(trial) == "infeasible" and schema.NAME not in trial.user_attrs
    ]
    peaks = [attrs["peak_memory_mib"] for attrs in refused if attrs.get("peak_memory_mib") is not None]
    if peaks:
        lines.append(
            f"{len(peaks)} never started, over the memory budget: "
            f"{min(peaks):.1f} to {max(peaks):.1f} MiB were predicted"
        )
    others = Counter(str(a["infeasible"]) for a in refused if a.get("peak_memory_mib") is None)
    lines += [f"{count} never started: {reason}" for reason, count in others.most_common(_MOST_REASONS)]
    return lines


def made_with(attributes: Mapping[str, Any]) -> Facts:
    """Returns the commit, versions and device of the study's last driver, where they were recorded."""
    sessions = read_sessions(attributes)
    if not sessions:
        return {}
    last = sessions[-1]
    facts: Facts = {} if last.commit is None else {"Commit": last.commit}
    return facts | {
        "Versions": ", ".join(f"{name} {number}" for name, number in last.versions.items()),
        "Device": last.device,
    }


def in_mlflow(
    name: str,
    runs_dir: str,
    storage: str | None,
    tracking_uri: str | None,
    links: Mapping[str, str],
    *,
    answers: bool,
) -> list[str]:
    """Returns how the study is found in MLflow: words, a command, words, and so on.

    Args:
        name: of the study.
        runs_dir: where it lies.
        storage: its Optuna storage, if it was named.
        tracking_uri: as the study was told.
        links: pages of its trials.
        answers: whether MLflow did.
    """
    where = where_flags(runs_dir, storage)
    if tracking_uri == NO_TRACKING:
        return ["The study was not told to MLflow; ", sync_command(name, where, "URI"), " brings it there."]
    if tracking_uri is not None and is_server(tracking_uri):
        server = f"MLflow at {without_password(tracking_uri)}"
        if links:
            return [f"Names lead to the runs in {server}."]
        if not answers:
            return [f"{server} did not answer when this page was made: names have no links."]
        return [f"{server} does not know the study; ", sync_command(name, where), " brings it there."]
    if tracking_uri is None and not (Path(runs_dir) / "mlflow.db").is_file():
        return ["There is no MLflow database here; ", sync_command(name, where), " makes it."]
    database = ui_command(tracking_uri, where_flags(runs_dir, None))
    return ["In MLflow: ", database, ", filter ", f'tags.study = "{name}"', "."]


def shown_folder(runs_dir: str, name: str) -> str:
    """Returns a study's folder as a command would name it."""
    return shlex.quote(str(Path(runs_dir) / name))
