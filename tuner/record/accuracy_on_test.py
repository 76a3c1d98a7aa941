"""The test images, read once for each trial on the final front. Imports torch only to read them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinytl.config.names import METRICS
from tinytl.data.splits import DataSplits, Split
from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.bucket.copies import bring_checkpoints
from tuner.record.by_trial import read_by_trial
from tuner.record.schema import STANDARD_ERROR as ERROR
from tuner.record.trials import Trial

FILE = "test_accuracy.json"
"""In the study's folder: each of `METRICS` on the test images and its standard error, by trial; of an older
study, accuracies."""
_IMAGES_AT_ONCE = 32


def known_test_figures(folder: Path) -> dict[str, dict[str, float]]:
    """Returns what is in a study's `test_accuracy.json`: nothing if the test images were not read.

    Raises:
        ConfigError: for a file that is damaged.
    """

    def figures(value: Any) -> dict[str, float]:
        if isinstance(value, float):
            return {"accuracy_top1": value}
        return {str(name): float(figure) for name, figure in value.items()}

    return read_by_trial(folder / FILE, figures, "the test images are read again")


def read_test_images(
    folder: Path,
    front: Sequence[Trial],
    data: DataSplits,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, float]] | None:
    """Evaluates each trial of the final front on `data.test`, with the checkpoint of its last epoch.

    A trial that has a figure in the study's `folder` is not evaluated again: a resumed study reads the test
    images only for trials that are new on its front. Figures of trials that left the front stay in the file.
    A trial without a whole checkpoint has no figure; `report` is called with a line that says why.

    Returns:
        Figures by trial, or None if there are no test images; then nothing is written.

    Raises:
        ConfigError: for a file of figures that is damaged or cannot be written.
    """
    if data.test is None:
        report(f"{data.name} has no test images: the front has no test accuracy")
        return None
    known = known_test_figures(folder)
    for result in front:
        if result.name in known:
            continue
        try:
            bring_checkpoints(folder / result.name)
            known[result.name] = _judge(folder / result.name, data.classes, data.test)
        except ConfigError as error:
            report(f"no test accuracy of {result.name}: {error}")
            continue
        write_whole(folder / FILE, json.dumps(known, indent=2) + "\n")
    return {result.name: known[result.name] for result in front if result.name in known}


def _judge(run: Path, classes: Sequence[str], images: Split) -> dict[str, float]:
    from tinytl.runs.checkpoint_file import check_same_classes
    from tinytl.runs.trained import load_trained
    from tinytl.training.evaluation import evaluate

    trained = load_trained(run, "last")
    check_same_classes({"classes": trained.classes}, classes, trained.path)
    found = evaluate(
        trained.net,
        trained.normalize,
        images,
        resolution=trained.config.resolution,
        batch_size=_IMAGES_AT_ONCE,
        precision=trained.precision,
        workers=trained.config.loader_workers,
    )
    figures = {name: getattr(found, name) for name in METRICS}
    return figures | {f"{name}_{ERROR}": found.standard_error(name) for name in METRICS}
