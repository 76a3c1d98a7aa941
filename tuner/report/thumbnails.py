"""Small pictures inside the page: so many, of so many bytes each, and not more."""

import base64
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tinytl.data.named_pictures import NamedPictures
from tinytl.data.pictures import BrokenPicture
from tinytl.data_checks.thumbnails import thumbnail

SIDE = 112
"""Longest edge in pixels; a smaller picture keeps its size."""
MOST_BYTES = 5120
"""Of a thumbnail, as JPEG; as text in the page it is a third more."""
MOST_THUMBNAILS = 300
"""On a page: they add 2.1 MB at most."""
ENLARGED_BELOW = 48
"""Pixels: pictures with a smaller edge are shown larger, so that their pixels are seen."""


class Thumbnails:
    """The thumbnails of a page: a picture is decoded once, until there are MOST_THUMBNAILS."""

    def __init__(self, parts: Mapping[str, NamedPictures]) -> None:
        """`parts`: the pictures of each split; none, if they are gone."""
        self.parts = parts
        self._left = MOST_THUMBNAILS
        self._made: dict[str, dict[str, Any] | None] = {}

    def of(self, file: str) -> dict[str, Any] | None:
        """Returns a picture by its name: `src`, a data URI, and whether it is `tiny`.

        None: it is not there, it does not decode, or the page has as many as it may.
        """
        if not self._left:
            return None
        if file not in self._made:
            self._made[file] = self._make(file)
        found = self._made[file]
        self._left -= found is not None
        return found

    @cached_property
    def _places(self) -> dict[str, tuple[NamedPictures, int]]:
        return {part.file(row): (part, row) for part in self.parts.values() for row in range(len(part))}

    def _make(self, file: str) -> dict[str, Any] | None:
        if file not in self._places:
            return None
        part, row = self._places[file]
        picture = part.picture(row, at_least=SIDE)
        if isinstance(picture, BrokenPicture):
            return None
        content = thumbnail(picture, SIDE, MOST_BYTES)
        assert content is not None  # it did decode
        source = base64.b64encode(content).decode()
        return {"src": f"data:image/jpeg;base64,{source}", "tiny": max(picture.size) < ENLARGED_BELOW}
