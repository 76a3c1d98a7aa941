"""What the best trial of a study gets wrong, as files: a table of classes, and pictures."""

import json
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tinytl.runs.judged_pictures import galleries
from tinytl.training.judgements import Judgements, OfClass
from tuner.findings.study_pictures import known_classes, study_pictures
from tuner.findings.sureness import judgements_in
from tuner.record.reading import StudyReading

TABLE = "per_class.json"


def write_mistakes(study: StudyReading, folder: Path, title: str) -> bool:
    """Writes the table, in the form of MLflow's `log_table`, and the pictures; returns whether it did.

    Nothing is written if there is no best trial, or it has not kept what it said of the validation images. If
    the data set is gone or has changed, there are no sheets of its pictures. `folder` is made.

    Raises:
        ConfigError: if they cannot be written.
    """
    best = study.best
    found = None if best is None else judgements_in(study.folder / best.name)
    if best is None or found is None:
        return False
    from tinytl.plots.gallery import save_galleries
    from tinytl.plots.judgements import save_judgements

    title = f"{best.label}, {title}"
    try:
        pictures = study_pictures(study)
        named, classes = pictures.judged(found.labels), pictures.classes
    except ConfigError:  # the report says why
        named, classes = None, known_classes(study, found)
    save_judgements(found, classes, folder, title)
    if named is not None:
        save_galleries(galleries(found, named, classes), named, folder, title)
    write_whole(folder / TABLE, _table(found, classes))
    return True


def _table(found: Judgements, classes: tuple[str, ...]) -> str:
    rows = [[*row] for row in found.by_class(classes)]
    return json.dumps({"columns": list(OfClass._fields), "data": rows}) + "\n"
