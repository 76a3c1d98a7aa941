"""A study's last looks, once its trials have ended: other seeds, test images, measured slowdowns."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinytl.errors import ConfigError
from tuner.findings.sureness import Sureness
from tuner.prepared import PreparedStudy
from tuner.record.accuracy_on_test import read_test_images
from tuner.record.measured_slowdown import measure_slowdowns
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.stopping import Stopping
from tuner.study.confirm import cost_line, train_with_seeds, trial_configs
from tuner.study.race import race

if TYPE_CHECKING:
    from tuner.cluster.resources import TrialResources
    from tuner.terminal.lines import TrialLines


def look_again(
    prepared: PreparedStudy,
    read: Callable[[], StudyReading],
    resources: "TrialResources",
    stopping: Stopping,
    lines: "TrialLines",
) -> None:
    """Looks again at the front and the best.

    Trains with other seeds: the front if that was asked for, else what cannot be told apart from the best.
    Reads the test images. Measures the slowdowns of their plans, if trials ran on this machine's CPU.

    `read` reads the study. What cannot be done is said in a line: the study itself is complete.
    """

    def is_stopped() -> bool:
        return stopping.reason is not None

    try:
        study = read()
        front = study.front
        if prepared.config.confirm and front:
            _confirm(prepared, front, study, resources, lines, is_stopped)
        elif front:
            race(prepared, read, resources, lines, is_stopped)
        best = read().best
        shown = [*front, *([] if best is None or best.on_front else [best])]
        if not is_stopped():
            lines.phase("reading test images")
            read_test_images(prepared.folder, shown, prepared.data, lines.note)
        if not is_stopped() and not resources.gpus_per_trial and prepared.config.address is None:
            lines.phase("measuring slowdowns")
            configs = trial_configs(prepared.folder, shown)
            measure_slowdowns(prepared.folder, shown, configs, resources.held_mib, is_stopped)
    except ConfigError as error:
        lines.note(str(error))


def _confirm(
    prepared: PreparedStudy,
    front: Sequence[Trial],
    study: StudyReading,
    resources: "TrialResources",
    lines: "TrialLines",
    is_stopped: Callable[[], bool],
) -> None:
    """Trains the front, and what cannot be told apart from the best, with `--confirm` other seeds."""
    lines.phase("training the front again")
    again = [*front, *(trial for trial in Sureness(study).contenders if not trial.on_front)]
    configs, seeds = trial_configs(prepared.folder, again), prepared.config.confirm
    cost = cost_line(prepared.folder, again, configs, seeds, resources.workers)
    if cost is not None:
        lines.note(cost)
    train_with_seeds(prepared, again, configs, seeds, resources, lines.confirmed, is_stopped)
