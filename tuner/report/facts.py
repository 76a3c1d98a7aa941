"""What the report says about a study in words: what was searched, on which data, and how to repeat it."""

import shlex
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from tinytl.passwords import without_password
from tuner.addresses import is_server
from tuner.bucket.copies import named
from tuner.config import NO_TRACKING
from tuner.findings.text import short
from tuner.next_commands import sync_command, ui_command, where_flags
from tuner.record import schema
from tuner.record.class_counts import ClassCounts
from tuner.record.identity import networks_of
from tuner.record.reading import StudyReading
from tuner.report.folders import Rows
from tuner.report.hours import again_s, busy_spans, by_the_clock, summed

Facts = dict[str, str]
"""Each label, with the text beside it."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""The splits of a data set by the names that the record has."""
_MOST_REASONS = 5


def data_facts(study: StudyReading, classes: ClassCounts | None = None) -> dict[str, Facts]:
    """Returns what was trained, and on which data. `classes`: of the data set, if they are known."""
    identity, settings = study.attributes, study.settings
    data: Facts = {"Data set": str(identity.get(schema.DATASET, "unknown"))}
    if settings.get("data_dir"):
        data["Folder"] = str(settings["data_dir"])
    if settings.get("exclude"):
        data["Left out by"] = str(settings["exclude"])
    if schema.CLASSES in identity:
        data["Classes"] = f"{identity[schema.CLASSES]:,}"
    for split, count in _counts(study, classes).items():
        data[f"{SPLITS[split].capitalize()} images"] = f"{count:,}"
    network: Facts = {
        "Backbone": ", ".join(networks_of(identity)) or "unknown",
        "Weights": str(identity.get(schema.WEIGHTS, "unknown")),
    }
    if settings.get("lite_weights"):
        network["Lite residuals"] = str(settings["lite_weights"])
    if schema.EPOCHS in identity:
        network["Epochs of a trial"] = str(identity[schema.EPOCHS])
    return {"Data": data, "Network": network}


def _counts(study: StudyReading, classes: ClassCounts | None) -> dict[str, int]:
    """Returns the number of images of each split; an older study knows fewer of them."""
    if classes is not None:
        return classes.totals()
    if study.sessions:
        counts = study.sessions[-1].images.counts
        return {split: counts[split] for split in SPLITS if split in counts}
    return {"train": study.attributes[schema.IMAGES]} if schema.IMAGES in study.attributes else {}


def time_facts(study: StudyReading, rows: Rows) -> Facts:
    """Returns for how long trials trained: by the clock, summed, and per worker. `rows`: their epochs."""
    spans = busy_spans(study, rows)
    if not spans:
        return {}
    clock, total = by_the_clock(spans), summed(spans)
    facts = {"Trials at work, by the clock": duration(clock), "Trials, summed": duration(total)}
    workers = study.settings.get("workers")
    if isinstance(workers, int) and workers > 1:
        facts[f"Per worker, of {workers}"] = duration(total / workers)
    elif clock:
        facts["Beside each other"] = f"{total / clock:.1f} trials on average"
    again = again_s(study)
    if again:
        facts["With other seeds, after the search"] = f"{duration(timedelta(seconds=again))} of epochs"
    return facts


def search_facts(study: StudyReading) -> Facts:
    """Returns how it was searched."""
    identity, settings = study.attributes, study.settings
    facts: Facts = {"Space": str(identity.get(schema.SPACE, "unknown"))}
    facts["Objectives"] = str(identity.get(schema.OBJECTIVES, "accuracy and memory"))
    facts["Memory budget"] = "none" if study.budget_mib is None else f"{study.budget_mib:g} MiB"
    if "max_slowdown" in settings:
        facts["Slowest plan"] = f"{settings['max_slowdown']:g} x the time of the fastest"
    for key, label in (("sampler", "Sampler"), ("scheduler", "Scheduler"), ("seed", "Seed")):
        if key in settings:
            facts[label] = str(settings[key])
    if settings.get("settings"):
        facts["Set by hand"] = ", ".join(settings["settings"])
    if identity.get(schema.FIXED):
        facts["Fixed by the space"] = ", ".join(f"{k} {short(v)}" for k, v in identity[schema.FIXED].items())
    return facts


def date_facts(study: StudyReading) -> Facts:
    """Returns when the first trial began and the last one ended, in the searching machine's local time."""
    starts = [trial.start for trial in study.trials if trial.start]
    if not starts:
        return {}
    facts = {"First trial began": moment(min(starts))}
    if study.last_end is not None:
        facts["Last trial ended"] = moment(study.last_end)
        facts["Between them"] = duration(study.last_end - min(starts))
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


def problems(study: StudyReading) -> list[str]:
    """Returns why configurations gave no accuracy, one line per reason, the most frequent first."""
    lines = []
    reasons = Counter(r.failure or "no reason recorded" for r in study.trials if r.state == "failed")
    for reason, count in reasons.most_common(_MOST_REASONS):
        lines.append(f"{count} failed: {reason}")
    if len(reasons) > _MOST_REASONS:
        rest = reasons.total() - sum(n for _, n in reasons.most_common(_MOST_REASONS))
        lines.append(f"{rest} failed for other reasons")
    out = sum(trial.state == "infeasible" for trial in study.trials)
    if out:
        lines.append(f"{out} ran out of memory: others took their place")
    peaks = [refusal.peak_memory_mib for refusal in study.refused if refusal.peak_memory_mib is not None]
    if peaks:
        lines.append(
            f"{len(peaks)} never started, over the memory budget: "
            f"{min(peaks):.1f} to {max(peaks):.1f} MiB were predicted"
        )
    others = Counter(refusal.reason for refusal in study.refused if refusal.peak_memory_mib is None)
    lines += [f"{count} never started: {reason}" for reason, count in others.most_common(_MOST_REASONS)]
    return lines


def made_with(study: StudyReading) -> Facts:
    """Returns the commit, versions and device of the study's last driver, if they were recorded."""
    sessions = study.sessions
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
        runs_dir: the folder of all studies.
        storage: its Optuna storage, if it was named.
        tracking_uri: as the study was given it.
        links: the pages of its trials.
        answers: whether MLflow answered.
    """
    where = where_flags(runs_dir, storage)
    if tracking_uri == NO_TRACKING:
        return ["The study is not recorded in MLflow; ", sync_command(name, where, "URI"), " adds it."]
    if tracking_uri is not None and is_server(tracking_uri):
        server = f"MLflow at {without_password(tracking_uri)}"
        if links:
            return [f"Names lead to the runs in {server}."]
        if not answers:
            return [f"{server} did not answer when this page was made: names have no links."]
        return [f"{server} does not know the study; ", sync_command(name, where), " adds it."]
    if tracking_uri is None and not (Path(runs_dir) / "mlflow.db").is_file():
        return ["There is no MLflow database here; ", sync_command(name, where), " makes it."]
    return ["In MLflow: ", ui_command(tracking_uri, where_flags(runs_dir, None), name), "."]


def shown_folder(runs_dir: str, name: str) -> str:
    """Returns a study's folder as a command would name it."""
    return shlex.quote(named(Path(runs_dir) / name))
