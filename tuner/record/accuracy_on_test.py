"""The test images, read once for each trial on the final front. Imports torch only to read them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tinytl.data.splits import DataSplits, Split
from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.record.trials import Trial

FILE = "test_accuracy.json"
"""In the study's folder: top-1 accuracy on the test images by trial."""
_IMAGES_AT_ONCE = 32


def known_test_accuracies(folder: Path) -> dict[str, float]:
    """Returns what is in a study's `test_accuracy.json`: nothing where the test images were not read.

    Raises:
        ConfigError: for a file that is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        return {str(trial): float(accuracy) for trial, accuracy in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged: take it away, and the test images are read again") from None


def read_test_accuracies(
    folder: Path,
    front: Sequence[Trial],
    data: DataSplits,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float] | None:
    """Judges each trial of the final front on `data.test`, by its last checkpoint, as its accuracy was.

    A trial whose figure stands in the study's `folder` is not judged again: a study that goes on reads the
    test images for those that are new on its front. Figures of trials that left it stay in the file. A trial
    without a whole checkpoint has no figure; `report` is given a line that says why.

    Returns:
        Accuracy by trial, or None if there are no test images; then nothing is written.

    Raises:
        ConfigError: for a file of figures that is damaged or cannot be written.
    """
    if data.test is None:
        report(f"{data.name} has no test images: the front has no test accuracy")
        return None
    known = known_test_accuracies(folder)
    for result in front:
        if result.name in known:
            continue
        try:
            known[result.name] = _judge(folder / result.name, data.classes, data.test)
        except ConfigError as error:
            report(f"no test accuracy of {result.name}: {error}")
            continue
        write_whole(folder / FILE, json.dumps(known, indent=2) + "\n")
    return {result.name: known[result.name] for result in front if result.name in known}


def _judge(run: Path, classes: Sequence[str], images: Split) -> float:
    from tinytl.runs.checkpoint_file import check_same_classes
    from tinytl.runs.trained import load_trained
    from tinytl.training.evaluation import evaluate

    trained = load_trained(run, "last")
    check_same_classes({"classes": trained.classes}, classes, trained.path)
    return evaluate(
        trained.net,
        trained.normalize,
        images,
        resolution=trained.config.resolution,
        batch_size=_IMAGES_AT_ONCE,
        precision=trained.precision,
        workers=trained.config.loader_workers,
    )[0]
