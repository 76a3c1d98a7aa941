"""What a `weights` setting names: weights by name, a URL, or a file. Imports nothing heavy."""

from pathlib import Path

IMAGENET_NAMES = ("imagenet", "imagenet_v1", "imagenet_v2")
"""ImageNet weights: the backbone's newest, or one of torchvision's two sets."""
NO_WEIGHTS = "none"
URL_SCHEMES = ("http://", "https://", "file://")


def is_url(source: str) -> bool:
    """Whether `source` is a URL that weights can be read from."""
    return source.lower().startswith(URL_SCHEMES)


def with_whole_path(source: str) -> str:
    """Returns `source` so that it means the same in any folder: a file becomes its absolute path."""
    if source in (*IMAGENET_NAMES, NO_WEIGHTS) or is_url(source):
        return source
    return str(Path(source).expanduser().resolve())
