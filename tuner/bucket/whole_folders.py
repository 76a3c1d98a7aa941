"""Folders of a bucket that are whole or not there, such as a finished model: a marker file goes last."""

import shutil
from pathlib import Path

from tuner.bucket.copies import bring_folder, copy_of, known_versions, note_version, send
from tuner.bucket.store import told

_SENT = "sent"
"""Noted as the version of a marker that was written from here."""


def bring_whole(folder: Path, marker: str) -> bool:
    """Makes a folder what the bucket has of it, if it is in a copy; returns whether the folder is whole.

    It is whole if it has the file `marker`, which `send_whole` sends last. If the bucket's is not, one that
    is whole here stays if it was neither brought nor sent since it changed. Else it is removed: another
    machine has removed the bucket's, or is about to write another.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(folder)
    if copy is None:
        return (folder / marker).is_file()
    folder = folder.resolve()
    key = copy.key_of(folder / marker)
    with told(f"--runs-dir {copy.bucket.address}"):
        there = copy.bucket.versions(copy.key_of(folder))
        if key in there:
            bring_folder(folder)
            for file in [path for path in folder.rglob("*") if path.is_file()]:
                if copy.key_of(file) not in there:
                    file.unlink(missing_ok=True)
        elif key in known_versions(copy):
            shutil.rmtree(folder, ignore_errors=True)
            note_version(copy, key, None)
    return (folder / marker).is_file()


def send_whole(folder: Path, marker: str) -> None:
    """Makes what the bucket has of a folder what is here, if it is in a copy: `marker` goes first and comes
    last.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(folder)
    if copy is None:
        return
    unmark(folder, marker)
    folder = folder.resolve()
    last = copy.key_of(folder / marker)
    with told(f"--runs-dir {copy.bucket.address}"):
        copy.bucket.remove(copy.bucket.versions(copy.key_of(folder)))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for file in sorted(files, key=lambda path: copy.key_of(path) == last):
        send(file)
    note_version(copy, last, _SENT)


def unmark(folder: Path, marker: str) -> None:
    """Makes a folder count as not whole in its bucket, if it is in a copy: it is about to change here.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(folder)
    if copy is not None:
        key = copy.key_of(folder.resolve() / marker)
        note_version(copy, key, None)  # before it is gone there: else what is here would count as gone, too
        with told(f"--runs-dir {copy.bucket.address}"):
            copy.bucket.remove([key])


def is_sent(file: Path) -> bool:
    """Whether the bucket has a file; True for one that is in no copy.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(file)
    if copy is None:
        return True
    file = file.resolve()
    with told(f"--runs-dir {copy.bucket.address}"):
        return copy.key_of(file) in copy.bucket.versions(copy.key_of(file.parent))
