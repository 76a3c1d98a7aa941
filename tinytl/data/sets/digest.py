"""A digest of a data set's content, the same on every machine. Works without torch."""

import hashlib
from typing import Any

import numpy as np

from tinytl.data.splits import DataSplits, ImageFiles, Split

FILES_READ = 1024
"""Number of files per split whose bytes count, spread evenly; of the others, only name and size count."""


def content_digest(splits: DataSplits) -> str:
    """Returns 16 hexadecimal digits of classes, labels and images, in their splits.

    Of files, names and sizes count, and the bytes of FILES_READ per split. The digest does not depend on the
    folder, nor on the resolution for which files are decoded.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\0".join(splits.classes).encode())
    for name, split in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        digest.update(name.encode())
        if split is not None:
            _take_in(digest, split)
    return digest.hexdigest()


def _take_in(digest: Any, split: Split) -> None:
    digest.update(np.ascontiguousarray(split.labels, dtype="<i8").tobytes())
    if not isinstance(split, ImageFiles):
        digest.update(str(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        return
    read = set(np.linspace(0, len(split) - 1, min(len(split), FILES_READ), dtype=int).tolist())
    for index in range(len(split)):
        path = split.path(index)
        digest.update(bytes(split.names[index]) + b"\0%d" % path.stat().st_size)
        if index in read:
            digest.update(path.read_bytes())
