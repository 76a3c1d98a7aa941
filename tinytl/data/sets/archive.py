"""Archives extracted beside themselves, whole or not at all.

Everything goes into a folder that ends in `.partial`, which gets its final name when it is complete. So a
killed process leaves nothing that looks like the set, and the next process starts over.
"""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tinytl.errors import ConfigError
from tinytl.files import lock

DRAIN_BYTES = 2**20
GZIP_MAGIC = b"\x1f\x8b"


def extract(archive: Path, folder: Path, report: Callable[[str], None]) -> None:
    """Extracts a tar archive's folder of the same name as `folder` to `folder`, which is beside it.

    Does nothing if `folder` exists.

    Raises:
        ConfigError: naming an archive that is cut off or damaged, or holds no such folder; or a disk that
            cannot be written to. The archive stays.
    """
    with extraction(archive, folder, report) as partial:
        if partial is None:
            return
        with open_tar(archive) as tar:
            tar.extractall(partial, filter="data")
        inner = partial / folder.name
        if not inner.is_dir():
            raise ConfigError(f"{archive} holds no folder {folder.name}: get it again")


@contextmanager
def extraction(archive: Path, folder: Path, report: Callable[[str], None]) -> Iterator[Path | None]:
    """Gives a new `.partial` folder to fill, or None if `folder` exists.

    At the end, `folder` becomes the partial folder's member of that name, or the partial folder itself.
    Processes that want the same archive wait for the first. Raises ConfigError as `extract` does.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        with archive.open("rb") as opened:
            lock(opened)
            if folder.exists():
                yield None
                return
            report(f"extracting {archive}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
                inner = partial / folder.name
                (inner if inner.is_dir() else partial).rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except ConfigError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(f"{archive} is cut off or damaged ({error}): get it again") from None
    except OSError as error:
        if error.errno is None:  # gzip raises OSError too, but not one of the system
            raise ConfigError(f"{archive} is cut off or damaged ({error}): get it again") from None
        raise ConfigError(f"{archive} cannot be extracted beside itself ({error})") from None


@contextmanager
def open_tar(archive: Path | IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Opens a tar file and verifies, when all members are read, that its end is whole.

    Python's reader treats a damaged header as the archive's end, and does not check a gzip stream's checksum.

    Raises:
        tarfile.TarError, EOFError, zlib.error, OSError: for an archive that is cut off or damaged.
    """
    # The content decides the mode: "r:*" tries all, and its error has a line for each.
    file = archive.open("rb") if isinstance(archive, Path) else archive
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    with file, tarfile.open(fileobj=file, mode="r:gz" if packed else "r:") as tar:
        yield tar
        stream: Any = tar.fileobj
        if not isinstance(stream, gzip.GzipFile):
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("unexpected end of data")
        else:
            while stream.read(DRAIN_BYTES):
                pass
