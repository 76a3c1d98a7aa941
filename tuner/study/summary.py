"""What launch.py prints before and after a study."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tinytl.config.names import METRICS
from tinytl.plural import counted, rough_span
from tuner.addresses import is_server
from tuner.bucket.copies import named, send
from tuner.findings.findings import print_findings
from tuner.findings.sureness import Sureness
from tuner.findings.text import short
from tuner.finish.lengths import lengths
from tuner.next_commands import (
    launch_command,
    resume_command,
    sync_command,
    tuner_command,
    ui_command,
    where_flags,
)
from tuner.record.trials import Trial, known
from tuner.study.race import MOST_SEEDS, seeds_of
from tuner.terminal.notice import Notice, no_notice
from tuner.tracking.pages import page_on
from tuner.verbosity import apply_verbosity

if TYPE_CHECKING:
    from tuner.prepared import PreparedStudy
    from tuner.study.run import StudyOutcome

DRY_RUN_SAMPLES = 5
LEAST_SEEDS = 3
"""The least number of other seeds that is suggested for what cannot be told apart."""
LINES_BESIDE_FRONT = 19
"""Most lines of the summary beside the rows of the front and what is not sure, with the prompt after it."""


def print_start(console: Console, prepared: PreparedStudy) -> None:
    """Prints what is searched, on which data, and the initial weights."""
    from tinytl.networks.backbones.weights import input_normalization
    from tinytl.runs.class_skew import skew_line, unjudged_line

    data, config = prepared.data, prepared.config
    budget = "" if config.memory_budget_mib is None else f", budget {config.memory_budget_mib:g} MiB"
    console.print(
        f"Study {prepared.name}: {counted(config.trials, 'trial')} of "
        f"{counted(prepared.base.epochs, 'epoch')}, {_networks(prepared)} on {data.name} "
        f"({len(data.classes)} classes, {len(data.train)} training and {len(data.val)} "
        f"validation images){budget}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for text in (
        skew_line(data, prepared.base, "--metric macro_f1"),
        unjudged_line(data, prepared.base.metric),
    ):
        if text is not None:
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    for backbone, weights in prepared.weights.items():
        normalization = input_normalization(dataclasses.replace(prepared.base, backbone=backbone), weights)
        source = weights.backbone.named if weights.backbone is not None else "none"
        lite = "" if weights.lite is None else f", lite residuals from {weights.lite.source}"
        text = f"{backbone}: weights {source}{lite}; input {normalization}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for note in prepared.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    if not prepared.searches_memory:
        console.print(
            f"Space {prepared.space.name} leaves memory as it is: it is searched for "
            f"{METRICS[config.metric]} alone.",
            highlight=False,
            soft_wrap=True,
        )


def print_dry_run(console: Console, prepared: PreparedStudy, notice: Notice = no_notice) -> None:
    """Prints the space, and its baselines and first samples with their predicted memory."""
    from optuna import create_study, samplers

    from tinytl.config.plan import least_within
    from tinytl.memory.curve import curve_under_plan
    from tinytl.selection.choose import chosen
    from tuner.trial_config import trial_config

    for parameter in prepared.space.parameters:
        console.print(f"  {parameter.name}: {parameter.describe()}", highlight=False, markup=False)
    notice("predicting memory")
    apply_verbosity()
    study = create_study(sampler=samplers.RandomSampler(seed=prepared.config.seed))
    points = {name: dict(prepared.space.fixed) | dict(p) for name, p in prepared.space.baselines.items()}
    for index in range(DRY_RUN_SAMPLES):
        points[f"sample {index + 1}"] = prepared.space.sample_trial(study.ask())
    table = Table(title="What would be tried", title_justify="left")
    table.add_column("")
    table.add_column("memory MiB", justify="right")
    table.add_column("slowdown", justify="right")
    table.add_column("configuration")
    for name, values in points.items():
        trial = trial_config(prepared.base, values)
        trial = chosen(trial, prepared.data, prepared.weights[trial.backbone])
        plan = least_within(curve_under_plan(trial), prepared.config.max_slowdown)
        searched = {key: value for key, value in values.items() if key not in prepared.space.fixed}
        row = f"{plan.peak_memory_mib:.1f}", f"{plan.slowdown:.2f}"
        table.add_row(name, *row, ", ".join(f"{k} {short(v)}" for k, v in searched.items()))
    notice(None)
    console.print(table)


def print_summary(console: Console, prepared: PreparedStudy, outcome: StudyOutcome) -> None:
    """Prints what the study found and how to look further; draws the front's picture."""
    config = prepared.config
    study = outcome.study

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    where = where_flags(config.runs_dir)
    status_command = tuner_command("status", prepared.name, where=where)
    console.print()
    sureness = Sureness(study)
    alike = sureness.contenders if not outcome.unfinished else []
    beside = LINES_BESIDE_FRONT + sum(1 + len(text) // console.width for text in sureness.lines())
    beside += 2 * (len(alike) > 1)
    print_findings(
        console,
        study,
        most_rows=max(3, console.height - beside) if console.is_terminal else None,
        where_all=status_command,
        sureness=sureness,
    )
    most = max(map(seeds_of, alike), default=0)
    if len(alike) > 1 and most < MOST_SEEDS:
        seeds = min(MOST_SEEDS, max(LEAST_SEEDS, 2 * most))
        words = ["--name", prepared.name, "--resume", "--confirm", str(seeds)]
        line(f"To tell them apart:  {launch_command(*words, where=where)}")
    if outcome.note:
        line(f"The search ended: {outcome.note}.")
    if study.complete:
        from tuner.pictures.still import plot_front, plot_rungs

        picture = study.folder / "front.png"
        title = f"{_networks(prepared)} on {prepared.data.name}, {counted(prepared.base.epochs, 'epoch')}"
        plot_front(study.complete, title, config.memory_budget_mib, picture)
        send(picture)
        line(f"Picture: {named(picture)}")
        if any(trial.rungs for trial in study.trials):
            picture = study.folder / "rungs.png"
            plot_rungs(study.trials, title, picture)
            send(picture)
            line(f"Rungs:   {named(picture)}")
    if outcome.unfinished:
        cut_off = "Interrupted. " if outcome.interrupted else ""
        line(f"{cut_off}Resume:  {resume_command(prepared.name, config.runs_dir)}")
    elif study.best is not None:
        finish = tuner_command("finish", prepared.name, where=where)
        line(f"Finish:  {finish}    (a model{_in_at_most(study.best, prepared.base.epochs)})")
    if not config.tracks:
        further = f"{sync_command(prepared.name, where, 'URI')}    (records it in MLflow)"
    elif config.tracking_uri is not None and is_server(config.tracking_uri):
        further = f"MLflow: {page_on(config.tracking_uri, outcome.page)}"
    else:
        further = f"{ui_command(config.tracking_uri, where, prepared.name)} --open    (MLflow)"
    if config.tensorboard:
        line(f"Curves:  tensorboard --logdir {shlex.quote(named(study.folder))}")
    line(
        f"Look further:  {status_command} [--json]\n"
        f"               {tuner_command('report', prepared.name, where=where, then=['--open'])}\n"
        f"               {further}"
    )


def _networks(prepared: PreparedStudy) -> str:
    """Returns the name of the network, or how many are searched."""
    backbones = list(prepared.weights)
    return backbones[0] if len(backbones) == 1 else counted(len(backbones), "backbone")


def _in_at_most(best: Trial, epochs: int) -> str:
    """Returns how long `tuner finish` may take, as its trial's epochs took; nothing if that is not known."""
    epoch_s = known(best.epoch_time_s)
    return "" if epoch_s is None else f", in at most {rough_span(epoch_s * sum(lengths(epochs)))}"
