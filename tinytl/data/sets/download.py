"""Archives as their authors publish them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinytl.download import download
from tinytl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file as its authors publish it."""

    file: str
    url: str
    md5: str

    def fetch(self, folder: Path, report: Callable[[str], None]) -> None:
        """Downloads the file into `folder` if it is not there, or raises ConfigError."""
        if (folder / self.file).exists():
            return
        try:
            download(self.url, folder / self.file, f"md5:{self.md5}", report)
        except ConfigError as error:
            raise ConfigError(f"{error}: try again, or put {self.file} into {folder}") from None
