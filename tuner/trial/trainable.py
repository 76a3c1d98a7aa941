"""One trial as Ray sees it: a step is an epoch, and an actor is reused for many trials."""

import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from ray import tune

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.device import device_name, resolve_device
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.files import naming_the_file
from tinytl.library_pages import release_library_pages
from tinytl.memory.out_of_memory import forget_peaks, out_of_memory_need_mib
from tinytl.networks.backbones.weights import Weights
from tinytl.runs.checkpoint_file import (
    DamagedCheckpointError,
    check_same_run,
    read_checkpoint,
    save_checkpoint,
)
from tinytl.runs.directory import FolderInUseError, RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tinytl.runs.record import seconds_per_epoch
from tinytl.runs.run import checkpoint_state
from tinytl.runs.tensorboard import TensorBoard
from tinytl.runs.trainer import Trainer
from tuner.record.trials import figures_of, metric_of_row
from tuner.trial.gpu_share import GpuShare, keep_to_share
from tuner.trial.system_metrics import SystemMonitor
from tuner.trial.trial_folder import TrialFolder, trial_folder

GAVE_UP = "gave_up"
"""In a trial's configuration: a result to report, in place of training it again."""
EVENTS = "tensorboard"
"""In a trial's folder: TensorBoard's event files, as those of `python -m tinytl train`."""
EVENTS_EVERY_S = 300.0
"""How often the event files of a trial that trains go to a bucket: they grow, and are sent whole."""
PREDECESSOR_S = 240.0
"""How long a trial waits for a process that still has its folder: its driver may have just been killed.

Or its node cannot be reached any more. Ray gives the trial to another node after a minute. The process that
was cut off was seen to keep the folder for over two minutes after the cut, and for less than four.
"""


class TinyTLTrainable(tune.Trainable):
    """Trains the configuration that `MemoryAwareSearch` suggested.

    Its folder is a run folder of `tinytl`. Each epoch is saved there before it is reported, so that a trial
    resumes from its last epoch after its process, its node or the driver was killed. Results hold the epoch's
    metrics (as `row`, too), the predicted `peak_memory_mib`, and `finished` once all epochs are done. After
    an error inside, the trial ends with the reason as `failure`, not with an exception: a retry would fail
    again, and the process is free for another trial. Only a process that dies is retried.
    """

    trainer: Trainer | None
    """None if there is nothing to train: what went wrong is in `failure`."""
    failure: dict[str, Any]
    rows: list[dict[str, Any]]
    """Metrics of the epochs so far."""
    goes_on: bool
    """Whether the last of them was trained before, and still has to be reported."""
    own: TrainConfig
    folder: TrialFolder
    directory: RunDirectory
    """What is in the folder."""
    share: GpuShare | None
    board: TensorBoard | None
    """What writes TensorBoard's event files."""
    monitor: SystemMonitor | None
    events_kept_s: float
    """When the event files were last kept, by this process's clock."""

    def setup(
        self,
        config: dict[str, Any],
        data: DataSplits,
        weights: Mapping[str, Weights],
        tensorboard: bool = False,
        system_metrics: bool = False,
    ) -> None:
        """Builds the trial; the rest comes from Ray's object store, which all workers of a node share.

        `tensorboard`: whether it writes event files. `system_metrics`: whether its rows have those.
        """
        # One thread per trial: on a CPU there are as many trials as cores, and results do not depend on load.
        torch.set_num_threads(1)
        release_library_pages()
        self.data = data
        self.weights = weights
        self.tensorboard, self.system_metrics = tensorboard, system_metrics
        self._claim = ExitStack()
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in the same process."""
        self.trainer = None
        forget_peaks()
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch and saves it.

        A resumed trial first reports its last epoch again: the driver may not know it yet, and it may be a
        rung.
        """
        if self.trainer is not None:
            try:
                if self.goes_on:
                    self.goes_on = False
                else:
                    metrics = self.trainer.train_epoch()
                    row = metrics.flat() | {
                        "metric": self.own.metric,
                        "peak_memory_mib": self.peak_memory_mib,
                        "trained_memory_mib": self.trained_memory_mib,
                        **self.plans,
                        "timestamp_ms": int(time.time() * 1000),
                        "device_name": device_name(self.trainer.device),
                        **({} if self.monitor is None else self.monitor.read()),
                    }
                    self.rows.append(row)
                    self._keep_judgements()
                    self.save_checkpoint(str(self.directory.path))
                    self.directory.append_metrics(row)
                    if self.board is not None:
                        with naming_the_file(self.directory.path / EVENTS):
                            self.board.add(row)
                    # In this order: metrics without their checkpoint would be trained again.
                    self.folder.keep(self.directory.last, self.directory.metrics_file)
                    if self.board is not None and time.monotonic() - self.events_kept_s > EVENTS_EVERY_S:
                        self._keep_events()
                return self._report()
            except NonFiniteLossError as error:
                self.failure = {"failure": str(error)}
            except ConfigError as error:
                # The disk is full or the bucket is away, which is not the trial's fault: it can resume later.
                self.failure = {"unsaved": str(error)}
            except Exception as error:  # of any kind: its traceback goes to error.txt
                self.failure = self._explain(error)
        self._claim.close()
        return {"done": True, "epoch": len(self.rows), "peak_memory_mib": self.peak_memory_mib} | self.failure

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state as `last.pt`; a file with that name is always whole."""
        if self.trainer is not None:
            path = Path(checkpoint_dir) / self.directory.last.name
            save_checkpoint(checkpoint_state(self.trainer, self.own, self.rows), path)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Resumes if a whole `last.pt` was written; else the trial begins anew.

        Raises:
            ConfigError: for one of another configuration or of other images.
        """
        path = Path(checkpoint_dir) / self.directory.last.name
        if self.trainer is not None and path.is_file():
            try:
                state = read_checkpoint(path, self.trainer.device)
            except DamagedCheckpointError:  # the driver has said so, if it was damaged before the study began
                return
            # A trial never reads test images.
            check_same_run(state, self.own, self.data, path)
            self.trainer.load_state_dict(state)
            self.rows = list(state["rows"])
            self.goes_on = bool(self.rows)

    def cleanup(self) -> None:
        """Releases the folder."""
        self._claim.close()

    def _start(self, config: dict[str, Any]) -> None:
        self.peak_memory_mib = config["peak_memory_mib"]
        self.trained_memory_mib = config["trained_memory_mib"]
        self.plans = config["plans"]
        self.failure = {}
        self.rows = []
        self.goes_on = False
        self._claim.close()  # of the trial before, with its board
        self.trainer = self.share = self.board = self.monitor = None
        try:
            if GAVE_UP in config:
                self.failure = config[GAVE_UP]
                return
            self.own = config["config"]
            try:
                self.folder = trial_folder(config["folder"])
                self.directory = RunDirectory(self.folder.path)
                self._claim.enter_context(self.folder.claimed(PREDECESSOR_S))
            except FolderInUseError:
                self.failure = {
                    "unsaved": f"{config['folder']} is still written by a process of this trial, perhaps "
                    "on a node that cannot be reached: end Ray there"
                }
                return
            except ConfigError as error:
                self.failure = {"unsaved": str(error)}
                return
            self.share = keep_to_share(resolve_device(self.own.device))
            self.trainer = Trainer(self.own, self.data, self.weights[self.own.backbone])
            self.load_checkpoint(str(self.folder.path))
            try:
                self._record()
                self.directory.write_metrics(self.rows)
                self.folder.keep(self.directory.metrics_file)
            except ConfigError as error:
                self.trainer, self.failure = None, {"unsaved": str(error)}
        except Exception as error:  # reported by the first step: Ray would retry the process
            self.trainer = None
            self.failure = self._explain(error)

    def _record(self) -> None:
        """Opens what records the trial beside its metrics."""
        if self.tensorboard:
            with naming_the_file(self.directory.path / EVENTS):
                # A process that was killed may not have sent the files of its last epochs.
                self.board = TensorBoard(self.directory.path / EVENTS, len(self.rows), self.rows)
            self.events_kept_s = time.monotonic()
            self._claim.callback(self._keep_events)  # after the one below
            self._claim.callback(self.board.close)
        if self.system_metrics:
            self.monitor = SystemMonitor(self.directory.path)

    def _keep_judgements(self) -> None:
        """After the last epoch, before anyone hears of it: writes what was said of each validation image."""
        judged = None if self.trainer is None else self.trainer.validated
        if judged is not None and len(self.rows) >= self.own.epochs:
            save_judgements(judged, self.directory.val_judgements)
            self.folder.keep(self.directory.val_judgements)

    def _keep_events(self) -> None:
        """Keeps TensorBoard's event files, which are sent whole: a trial does not end for them."""
        if self.board is not None:
            self.events_kept_s = time.monotonic()
            with suppress(ConfigError):
                self.folder.keep(*sorted((self.directory.path / EVENTS).glob("*")))

    def _report(self) -> dict[str, Any]:
        row = self.rows[-1]
        finished = row["epoch"] >= self.own.epochs
        if finished:
            self._claim.close()
        return {
            "epoch": row["epoch"],
            "score": row[metric_of_row(row)],
            "standard_error": row.get("standard_error"),  # an older checkpoint has none
            **figures_of(row),  # Ray hands `row` to a searcher in pieces
            "peak_memory_mib": self.peak_memory_mib,
            "measured_peak_mib": row["measured_peak_mib"],
            "process_peak_mib": row.get("process_peak_mib"),  # an older checkpoint has none
            "epoch_time_s": seconds_per_epoch(self.rows),
            "row": row,
            "finished": finished,
            "done": finished,
        }

    def _explain(self, error: Exception) -> dict[str, Any]:
        """Writes the traceback to the trial's folder; returns one line, with the need if memory ran out.

        Memory that a neighbour on the same GPU took says nothing about what the trial needs.
        """
        with suppress(OSError, ConfigError):  # the disk or the bucket may be what went wrong
            report = self.folder.path / "error.txt"
            report.write_text(traceback.format_exc())
            self.folder.keep(report)
        lines = str(error).strip().splitlines()
        failure = {"failure": f"{type(error).__name__}: {lines[0] if lines else 'no message'}"}
        need_mib = out_of_memory_need_mib(error)
        if need_mib is None:
            return failure
        others = self.share and self.share.neighbours_fault(error, need_mib)
        if others:
            return {"failure": f"{failure['failure']}; {others}"}
        return failure | {"out_of_memory": True, "measured_need_mib": need_mib}
