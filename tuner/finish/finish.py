"""From a study's chosen pair to a folder with a model: trained, judged once, written whole, logged."""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.data.splits import DataSplits
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.export.model import onnx_or_reason, write_model
from tinytl.memory.measure import process_peak_mib
from tinytl.plural import counted, rough_span
from tinytl.runs.exported import ABOUT_FILE
from tinytl.runs.judged import flat
from tinytl.runs.trained import TrainedNetwork, load_trained
from tinytl.training.evaluation import evaluate
from tinytl.training.judgements import Judgements
from tuner.bucket.copies import named
from tuner.bucket.whole_folders import send_whole
from tuner.findings.best import Best, choose_best
from tuner.finish.card import CARD, TEST, card, with_error
from tuner.finish.lengths import best_length, lengths, try_lengths
from tuner.finish.model_folder import (
    MODEL,
    check_only_own,
    differences,
    in_words,
    is_made,
    read_model,
    set_aside,
)
from tuner.finish.model_tracking import ModelTracking, Report
from tuner.finish.outcome import Outcome
from tuner.finish.training import FOLDER as RUNS
from tuner.finish.training import FinishedRun, Training
from tuner.finish.wish import Wish
from tuner.next_commands import this_command
from tuner.record import schema
from tuner.record.claim import check_free, finish_claimed
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial, known
from tuner.tracking.model_run import FinishedModel

IMAGES_AT_ONCE = 32


def finish_study(study: StudyReading, wish: Wish, report: Report) -> None:
    """Makes the model of a study in its folder `model/`, and logs it in MLflow if that has the study.

    A call that was cut off continues: training after its last epoch, the rest from its beginning. A model
    that is there is not made again, unless `wish.replace`: what MLflow lacks of it is added.

    Raises:
        ConfigError: if a driver runs the study, another process finishes it (also if it took over the claim
            in a bucket, because this one was silent for too long), nothing can be chosen, MLflow cannot
            register, the images have changed since, the model is there and nothing is left to do or other
            flags made it, its folder holds other files, or a file cannot be written.
        NonFiniteLossError: if the loss diverges in the first run.
    """
    check_free(study.folder, study.attributes, study.name)
    with finish_claimed(study.folder, study.name) as check_claim:
        if is_made(study, check_claim) and not wish.replace:
            tracking, model = _missing(study, wish, report)
            check_claim()
            tracking.add(model)
            return
        check_only_own(study.folder / MODEL)
        best = choose_best(study, wish.under_mib, wish.trial)
        if wish.epochs is not None:  # a bad number is found before images are read
            dataclasses.replace(best.config, epochs=wish.epochs)
        tracking = ModelTracking(study, wish, report)
        target = study.folder / MODEL
        _write(_train(best, wish, report), target, report, check_claim)
        check_claim()
        send_whole(target, ABOUT_FILE)
        check_claim()
        tracking.add(read_model(study))
    report(f"Model: {named(target)} ({CARD} is its card)")
    report(f"Use it: python -m tinytl predict {shlex.quote(str(target))} PICTURE")


def _train(best: Best, wish: Wish, report: Report) -> Outcome:
    data = _images(best, report)
    training = Training(
        folder=best.study.folder / RUNS,
        trial=best.trial.name,
        config=best.config,
        data=data,
        report=report,
    )
    tried: dict[int, float | None] = {}
    on_train: FinishedRun | None = None
    epochs = wish.epochs
    if epochs is None:
        on_train, tried = _length_found(training, best, wish, report)
        epochs = on_train.epochs
    elif not wish.val_too:
        on_train = training.run(epochs)
        tried = {epochs: on_train.figures[best.trial.metric]}
    run = on_train
    if wish.val_too:
        report("nothing is left to validate on: the last epoch is the model")
        run = training.run(epochs, val_too=True)
    assert run is not None
    test = _judge(run, data)
    report("no test images: the model is not judged" if test is None else _judged_line(best.trial, test))
    named_best = best.study.best is not None and best.study.best.name == best.trial.name
    return Outcome(
        best=best,
        named=wish.trial is not None and not named_best,
        data=data,
        tried=tried,
        on_train=on_train,
        run=run,
        val_too=wish.val_too,
        test=test,
        process_mib=process_peak_mib(),
        command=shlex.join(this_command()),
    )


def _judged_line(trial: Trial, test: Judgements) -> str:
    n_images = counted(len(test.labels), "test image")
    line = f"on {n_images}: {trial.metric_words} {with_error(test, trial.metric)}"
    of_trial = known(trial.test_score)
    return line if of_trial is None else f"{line} (the trial in the search: {of_trial:.3f})"


def _length_found(
    training: Training, best: Best, wish: Wish, report: Report
) -> tuple[FinishedRun, dict[int, float | None]]:
    runs: dict[int, FinishedRun] = {}
    metric, words = best.trial.metric, best.trial.metric_words
    epoch_s = known(best.trial.epoch_time_s)
    began_s = time.monotonic()
    _say_how_long(best, epoch_s, report)

    def train(epochs: int) -> float | None:
        try:
            runs[epochs] = training.run(epochs)
        except NonFiniteLossError as error:
            if not runs:
                raise
            report(f"{counted(epochs, 'epoch')}: {error}")
            return None
        score = runs[epochs].figures[metric]
        report(f"{counted(epochs, 'epoch')}: {words} {score:.3f}")
        return score

    def in_time(epochs: int) -> bool:
        paces_s = [run.seconds_per_epoch for run in runs.values() if run.seconds_per_epoch is not None]
        pace_s = paces_s[-1] if paces_s else epoch_s
        if pace_s is None or training.has_ended(epochs):
            return True
        needed_s = pace_s * epochs * (2 if wish.val_too else 1)  # the last run is as long
        spent_s = time.monotonic() - began_s
        if wish.time_budget_s is None or needed_s <= wish.time_budget_s - spent_s:
            report(f"next: {counted(epochs, 'epoch')}, about {rough_span(needed_s)}")
            return True
        report(
            f"{counted(epochs, 'epoch')} would take about {rough_span(needed_s)}, more than is left of "
            f"--time-budget {wish.time_budget_s:g}"
        )
        return False

    tried = try_lengths(best.config.epochs, train, in_time)
    kept = best_length(tried)
    assert kept is not None  # the first run did not diverge
    report(f"kept: {counted(kept, 'epoch')}")
    return runs[kept], tried


def _say_how_long(best: Best, epoch_s: float | None, report: Report) -> None:
    first, *longer = lengths(best.config.epochs)
    then = f"{', '.join(map(str, longer[:-1]))} and {longer[-1]}"
    report(
        f"chosen: {best.trial.label}; it trains for {counted(first, 'epoch')}, then anew for {then}, until a "
        "run is not better than the one before"
    )
    if epoch_s is not None:
        most_s = epoch_s * (first + sum(longer))
        report(
            f"about {rough_span(epoch_s * first)} for the first run, {rough_span(most_s)} for all "
            "(--time-budget SECONDS or --epochs N for less)"
        )


def _images(best: Best, report: Report) -> DataSplits:
    """Returns the images of the study.

    Raises:
        ConfigError: if they are gone, or are others now.
    """
    data = load_dataset(best.config, report=report)
    was = best.study.attributes.get(schema.IMAGES_DIGEST)
    if None not in (was, data.digest) and was != data.digest:
        raise ConfigError(
            f"the images of study {best.study.name} have changed since (digest {was} then, {data.digest} "
            "now): bring them back, or search again"
        )
    return data


def _judge(run: FinishedRun, data: DataSplits) -> Judgements | None:
    if data.test is None:
        return None
    trained = load_trained(run.folder, "last", run.config.device)
    return evaluate(
        trained.net,
        trained.normalize,
        data.test,
        resolution=trained.config.resolution,
        batch_size=IMAGES_AT_ONCE,
        precision=trained.precision,
        workers=trained.config.loader_workers,
    )


def _write(outcome: Outcome, target: Path, report: Report, check_claim: Callable[[], None]) -> None:
    trained = load_trained(outcome.run.folder, "last", "cpu")
    onnx = onnx_or_reason(trained, outcome.data.val, f"validation images of {outcome.data.name}")
    no_onnx = onnx if isinstance(onnx, str) else None
    if no_onnx is not None:
        report(f"no ONNX file: {no_onnx}")
    beside = {CARD: card(outcome, no_onnx)}
    if outcome.test is not None:
        judged = {
            "split": "test",
            "images": len(outcome.test.labels),
            **flat(outcome.test, outcome.data.classes),
        }
        beside[TEST] = json.dumps(judged) + "\n"
    check_claim()
    with set_aside(target):
        write_model(
            _without_run(trained),
            target,
            onnx=None if isinstance(onnx, str) else onnx,
            known=outcome.to_json(),
            beside=beside,
        )


def _without_run(trained: TrainedNetwork) -> TrainedNetwork:
    """Returns the network with a configuration that leaves the number of workers open, as a new run does."""
    config: TrainConfig = dataclasses.replace(trained.config, loader_workers=None)
    return dataclasses.replace(trained, config=config)


def _missing(study: StudyReading, wish: Wish, report: Report) -> tuple[ModelTracking, FinishedModel]:
    """Returns a model that is there, and where it is to be logged or registered.

    Raises:
        ConfigError: if nothing is left to do, or the flags ask for another model.
    """
    model = read_model(study)
    there = f"study {study.name} has its model, of {in_words(model)}, in {named(model.folder)}"
    others = differences(study, model, wish)
    if others:
        raise ConfigError(f"{there}; {', '.join(others)} would make another: add --replace, or leave it out")
    since = _other_best(study, model, wish)
    tracking = ModelTracking(study, wish, report)
    if wish.register is None and not tracking.lacks(model):
        raise ConfigError(f"{there}{since}: use it, or add --replace to make another")
    if since:
        report(f"{there}{since} now: --replace makes another")
    return tracking, model


def _other_best(study: StudyReading, model: FinishedModel, wish: Wish) -> str:
    """Returns `; the best is TRIAL` if that is another trial than the model's and no flag chose the trial."""
    if wish.trial is not None or wish.under_mib is not None:
        return ""
    try:
        best = choose_best(study, None).trial.name
    except ConfigError:  # nothing fits the study's own budget, or a file is lost: the model is there
        return ""
    return "" if best == model.about["trial"] else f"; the best is {best}"
