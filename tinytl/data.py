"""Data sets as uint8 arrays in memory, split into train, val and test. Works without torch.

Search and training see train and val; test is read once, at the end.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tinytl.config import TrainConfig
from tinytl.errors import ConfigError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
HELD_OUT_FRACTION = 0.2
"""Share of each class that becomes val, and test, where the data set does not bring them."""
SPLIT_SEED = 0
"""Splits do not follow the run's seed: runs with other seeds stay comparable, and test stays unseen."""
STORED_OVER_INPUT = 8 / 7
"""Images are kept a little larger than the network's input, so that crops have room (256 for 224)."""


@dataclass(frozen=True)
class ImageSet:
    """Images `(N, S, S, 3)` uint8 and labels `(N,)` int64 of one split."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of each image's edge, as stored."""
        return self.images.shape[1]


@dataclass(frozen=True)
class DataSplits:
    """A data set: the names of its classes and its splits; `test` is None where there is none."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    crop_scale_min: float
    """Smallest share of the area that a training crop keeps, where the run does not say."""
    flip: bool
    """Whether mirrored images keep their class, where the run does not say."""


def load_dataset(config: TrainConfig, max_resolution: int | None = None) -> DataSplits:
    """Decodes the data set of `config`, keeping images for inputs up to `max_resolution` pixels.

    Raises:
        ConfigError: for a folder that is missing, empty, or has one class; for an image that does not
            decode, by its name; for `num_classes` that the data set does not have.
    """
    if config.dataset == "digits":
        splits = _load_digits()
    else:
        splits = _load_imagefolder(config.data_dir, max_resolution or config.resolution)
    if config.num_classes not in (None, len(splits.classes)):
        raise ConfigError(
            f"num_classes={config.num_classes}, but {splits.name} has {len(splits.classes)} classes: "
            "leave num_classes unset"
        )
    return splits


def check_data_dir(config: TrainConfig) -> None:
    """Raises ConfigError where the data set's folder cannot be right, without decoding an image."""
    if config.dataset == "imagefolder":
        _list_imagefolder(config.data_dir)
    elif config.data_dir is not None:
        raise ConfigError(
            f"--data-dir {config.data_dir} is not used by dataset {config.dataset}: "
            "add --dataset imagefolder to train on your images"
        )


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits `range(len(labels))` in two, the second holding `fraction` of every class (at least one).

    Every class needs two images or more; the parts are sorted, disjoint and the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    held_out: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.extend(rng.permutation(members)[:count].tolist())
    second = np.sort(np.array(held_out, dtype=np.int64))
    return np.setdiff1d(np.arange(len(labels)), second), second


def _load_digits() -> DataSplits:
    """The 1,797 handwritten digits that scikit-learn ships, grey, 8x8 (source: UCI optdigits, test part)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    labels = bunch.target.astype(np.int64)
    train, val, test = _three_way(ImageSet(images, labels))
    classes = tuple(str(digit) for digit in range(10))
    return DataSplits("digits", classes, train, val, test, crop_scale_min=0.6, flip=False)


def _three_way(whole: ImageSet) -> tuple[ImageSet, ImageSet, ImageSet]:
    rest, test = stratified_split(whole.labels, HELD_OUT_FRACTION, SPLIT_SEED)
    inside = HELD_OUT_FRACTION / (1 - HELD_OUT_FRACTION)
    train, val = stratified_split(whole.labels[rest], inside, SPLIT_SEED + 1)
    return _take(whole, rest[train]), _take(whole, rest[val]), _take(whole, test)


def _take(whole: ImageSet, index: npt.NDArray[np.int64]) -> ImageSet:
    return ImageSet(whole.images[index], whole.labels[index])


@dataclass(frozen=True)
class _Listing:
    classes: tuple[str, ...]
    splits: dict[str, list[tuple[Path, int]]]


def _list_imagefolder(data_dir: str | None) -> _Listing:
    if data_dir is None:
        raise ConfigError(
            "dataset imagefolder needs --data-dir, a folder with train/CLASS/*.jpg or CLASS/*.jpg"
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise ConfigError(f"--data-dir {data_dir}: no such folder")
    train_dir = root / "train" if (root / "train").is_dir() else root
    classes = _class_names(train_dir)
    if len(classes) < 2:
        held = f"only one class ({classes[0]})" if classes else "no class folder with images"
        raise ConfigError(f"--data-dir {data_dir}: {held} under {train_dir}; two classes are needed at least")
    splits = {"train": _list_split(train_dir, classes)}
    if train_dir != root:
        for name in ("val", "test"):
            if (root / name).is_dir():
                splits[name] = _list_split(root / name, classes)
                if not splits[name]:
                    raise ConfigError(f"--data-dir {data_dir}: {root / name} has no images")
    if "val" not in splits:
        needed = 2 if "test" in splits else 3
        counts = np.bincount([label for _, label in splits["train"]], minlength=len(classes))
        for name, count in zip(classes, counts, strict=True):
            if count < needed:
                raise ConfigError(
                    f"--data-dir {data_dir}: class {name} has {count} image(s); without a val folder each "
                    f"class needs at least {needed}, one for each split"
                )
    return _Listing(classes, splits)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(d.name for d in folder.iterdir() if d.is_dir() and _images_in(d)))


def _list_split(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        raise ConfigError(f"{folder} has class {unknown[0]}, which the training images do not have")
    return [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in _images_in(folder / name)
    ]


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _load_imagefolder(data_dir: str | None, max_resolution: int) -> DataSplits:
    listing = _list_imagefolder(data_dir)
    stored_cap = math.ceil(max_resolution * STORED_OVER_INPUT)
    paths = [path for split in listing.splits.values() for path, _ in split]
    with ThreadPoolExecutor() as pool:
        # Every file is decoded whole: a truncated one must be found here and not in the middle of a search.
        pictures = list(pool.map(lambda path: _decode_square(path, stored_cap), paths))
    side = max(picture.size[0] for picture in pictures)
    stored = np.stack([np.asarray(_resize_square(picture, side)) for picture in pictures])
    splits: dict[str, ImageSet] = {}
    start = 0
    for name, members in listing.splits.items():
        end = start + len(members)
        splits[name] = ImageSet(stored[start:end], np.array([label for _, label in members], dtype=np.int64))
        start = end
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    if val is None and test is None:
        train, val, test = _three_way(train)
    elif val is None:
        kept, held_out = stratified_split(train.labels, HELD_OUT_FRACTION, SPLIT_SEED)
        train, val = _take(train, kept), _take(train, held_out)
    name = Path(data_dir or "").expanduser().resolve().name
    return DataSplits(name, listing.classes, train, val, test, crop_scale_min=0.7, flip=True)


def _decode_square(path: Path, stored_cap: int) -> Image.Image:
    """Decodes one file to RGB and cuts the central square, at most `stored_cap` pixels wide."""
    try:
        with Image.open(path) as opened:
            picture = _opaque(ImageOps.exif_transpose(_eight_bits(opened)))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path} does not decode as an image ({error}): repair or remove it") from None
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return _resize_square(picture.crop((left, top, left + side, top + side)), min(side, stored_cap))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, which Pillow's `convert` would cut off at 255: all white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _opaque(picture: Image.Image) -> Image.Image:
    """Converts to RGB, laying what is transparent on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")


def _resize_square(picture: Image.Image, side: int) -> Image.Image:
    if picture.size == (side, side):
        return picture
    return picture.resize((side, side), Image.Resampling.BILINEAR)
