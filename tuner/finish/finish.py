"""From a study's chosen pair to a folder with a model: trained, judged once, written whole, logged."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.data.splits import DataSplits
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.export.model import onnx_or_reason, write_model
from tinytl.memory.measure import process_peak_mib
from tinytl.runs.directory import FolderInUseError, RunDirectory
from tinytl.runs.exported import ABOUT_FILE, is_exported
from tinytl.runs.judged import flat
from tinytl.runs.trained import TrainedNetwork, load_trained
from tinytl.training.evaluation import evaluate
from tinytl.training.judgements import Judgements
from tuner.bucket.copies import bring_folder, named, send
from tuner.bucket.database import mlflow_at_hand, send_mlflow
from tuner.config import StudyConfig
from tuner.findings.best import Best, choose_best
from tuner.finish.card import CARD, TEST, card
from tuner.finish.lengths import best_length, try_lengths
from tuner.finish.outcome import Outcome
from tuner.finish.training import FOLDER as RUNS
from tuner.finish.training import FinishedRun, Training
from tuner.next_commands import this_command
from tuner.record import schema
from tuner.record.claim import check_free
from tuner.record.reading import StudyReading
from tuner.tracking.model_run import (
    FinishedModel,
    check_registry,
    is_logged,
    log_finished,
    open_runs,
    register,
    serve_command,
)
from tuner.tracking.runs import StudyRuns

MODEL = "model"
"""In the study's folder: the finished model."""
IMAGES_AT_ONCE = 32
Report = Callable[[str], None]
"""Called with a line for the user."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for."""

    trial: str | None = None
    """None: the best."""
    under_mib: float | None = None
    """None: the study's own budget."""
    epochs: int | None = None
    """None: as many as are found to be worth it."""
    val_too: bool = False
    """Whether the model trains on validation images, too."""
    register: str | None = None
    """A name in MLflow's registry of models."""
    tracking_uri: str | None = None
    """None: where the study is recorded."""


def finish_study(study: StudyReading, wish: Wish, report: Report) -> None:
    """Makes the model of a study in its folder `model/`, and logs it in MLflow if that has the study.

    A call that was cut off continues: training after its last epoch, the rest from its beginning. A model
    that is there is not made again: what MLflow lacks of it is added.

    Raises:
        ConfigError: if a driver runs the study, nothing can be chosen, MLflow cannot register, the images
            have changed since, the model is there and nothing is left to do, or a file cannot be written.
        NonFiniteLossError: if the loss diverges in the first run.
    """
    check_free(study.folder, study.attributes, study.name)
    tracking = _Tracking(study, wish, report)
    target = study.folder / MODEL
    bring_folder(target)
    if is_exported(target):
        _add_what_is_missing(study, target, tracking, wish)
        return
    best = choose_best(study, wish.under_mib, wish.trial)
    if wish.epochs is not None:
        dataclasses.replace(best.config, epochs=wish.epochs)  # a bad number is found before images are read
    try:
        with RunDirectory(study.folder / RUNS).claimed():
            _write(_train(best, wish, report), target, report)
            send(target)
            tracking.add(_read(study, target))
    except FolderInUseError:
        raise ConfigError(
            f"study {study.name} is being finished by another process: wait for its end"
        ) from None
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
        report(f"chosen: {best.trial.label}; its length is doubled until a whole run is not better")
        on_train, tried = _length_found(training, best, report)
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
    report(
        "no test images: the model is not judged"
        if test is None
        else f"judged on {len(test.labels):,} test images"
    )
    return Outcome(
        best=best,
        data=data,
        tried=tried,
        on_train=on_train,
        run=run,
        val_too=wish.val_too,
        test=test,
        process_mib=process_peak_mib(),
        command=shlex.join(this_command()),
    )


def _length_found(
    training: Training, best: Best, report: Report
) -> tuple[FinishedRun, dict[int, float | None]]:
    runs: dict[int, FinishedRun] = {}
    metric, words = best.trial.metric, best.trial.metric_words

    def train(epochs: int) -> float | None:
        try:
            runs[epochs] = training.run(epochs)
        except NonFiniteLossError as error:
            if not runs:
                raise
            report(f"{epochs} epochs: {error}")
            return None
        score = runs[epochs].figures[metric]
        report(f"{epochs} epochs: {words} {score:.3f}")
        return score

    tried = try_lengths(best.config.epochs, train)
    kept = best_length(tried)
    assert kept is not None  # the first run did not diverge
    report(f"kept: {kept} epochs")
    return runs[kept], tried


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


def _write(outcome: Outcome, target: Path, report: Report) -> None:
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


def _read(study: StudyReading, target: Path) -> FinishedModel:
    about = json.loads((target / ABOUT_FILE).read_text())
    return FinishedModel(
        folder=target,
        about=about,
        card=(target / CARD).read_text(),
        training=study.folder / RUNS / str(about["run"]),
    )


def _add_what_is_missing(study: StudyReading, target: Path, tracking: "_Tracking", wish: Wish) -> None:
    model = _read(study, target)
    if wish.register is None and not tracking.lacks(model):
        about = model.about
        raise ConfigError(
            f"study {study.name} has its model, of {about['trial']} after {about['epoch']} epochs, in "
            f"{named(target)}: use it, or move that folder away to make another"
        )
    send(target)
    tracking.add(model)


class _Tracking:
    """A study's runs in MLflow, or none. Only if a model is to be registered, MLflow must answer."""

    def __init__(self, study: StudyReading, wish: Wish, report: Report) -> None:
        self.study, self.name, self.report = study, wish.register, report
        given = wish.tracking_uri or study.settings.get("tracking_uri")
        config = StudyConfig(runs_dir=study.runs_dir, tracking_uri=given)
        self.uri = config.resolved_tracking_uri
        self.runs: StudyRuns | None = None
        if not config.tracks:
            if self.name is not None:
                raise ConfigError(
                    f"--register {self.name}: study {study.name} was begun without MLflow: add --tracking-uri"
                )
            return
        try:
            mlflow_at_hand(study.runs_dir)
            self.runs = open_runs(study, self.uri)
            if self.name is not None:
                check_registry(self.runs, self.uri, self.name)
        except ConfigError as error:
            if self.name is not None:
                raise ConfigError(f"--register {self.name}: {error}") from None
            report(f"the model will not be in MLflow: {error}")

    def lacks(self, model: FinishedModel) -> bool:
        """Whether MLflow is there and does not have a model."""
        return self.runs is not None and not is_logged(self.runs, model)

    def add(self, model: FinishedModel) -> None:
        """Logs a model, and registers it if that was asked for.

        Raises:
            ConfigError: if it is to be registered, and MLflow does not answer.
        """
        if self.runs is None:
            return
        try:
            self._log(self.runs, model)
        except ConfigError as error:
            if self.name is not None:
                raise
            self.report(f"the model is not in MLflow: {error}; once it answers, the same command adds it")

    def _log(self, runs: StudyRuns, model: FinishedModel) -> None:
        model_id = log_finished(runs, self.uri, model)
        self.report(f"MLflow has it as models:/{model_id}: {serve_command(self.uri, model_id)}")
        if self.name is not None:
            description = model.card.partition("\n\n")[2].partition("\n\n")[0]
            version = register(runs, self.uri, model_id, self.name, description)
            self.report(f"registered: models:/{self.name}/{version}")
        send_mlflow(self.study.runs_dir)
