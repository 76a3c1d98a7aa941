"""Small archives in the format in which each data set is published, with all of its classes."""

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

COLORS = ((220, 30, 30), (30, 200, 40), (30, 40, 220))


def picture(label: int, suffix: str = "JPEG", size: tuple[int, int] = (30, 24)) -> bytes:
    """A picture whose colour encodes its class modulo three."""
    file = io.BytesIO()
    Image.new("RGB", size, COLORS[label % 3]).save(file, suffix)
    return file.getvalue()


PICTURES = [picture(label) for label in range(3)]


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Writes a tar archive, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = path.name.endswith("gz")
    with tarfile.open(path, "w:gz" if packed else "w", **({"compresslevel": 1} if packed else {})) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def cifar(folder: Path, name: str, n_classes: int | None = None) -> Path:
    """5 training images per class in CIFAR-10, 3 in CIFAR-100; 1 test image per class."""
    hundred = name == "cifar100"
    n = n_classes or (100 if hundred else 10)

    def batch(per_class: int) -> bytes:
        labels = list(range(n)) * per_class
        images = np.zeros((len(labels), 3, 32, 32), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:] = np.array(COLORS[label % 3])[:, None, None]
        entry: dict[str, Any] = {"data": images.reshape(len(labels), -1)}
        return pickle.dumps(entry | {"fine_labels" if hundred else "labels": labels})

    names = [f"class {i}" for i in range(n)]
    if hundred:
        files = {"train": batch(3), "test": batch(1), "meta": pickle.dumps({"fine_label_names": names})}
        top = "cifar-100-python"
    else:
        files = {f"data_batch_{i}": batch(1) for i in range(1, 6)}
        files |= {"test_batch": batch(1), "batches.meta": pickle.dumps({"label_names": names})}
        top = "cifar-10-batches-py"
    archive = {True: "cifar-100-python.tar.gz", False: "cifar-10-python.tar.gz"}[hundred]
    return write_tar(folder / archive, {f"{top}/{file}": content for file, content in files.items()})


def cub200(folder: Path, n_classes: int = 200) -> Path:
    """2 training images and 1 test image per class; the archive also holds a file beside its folder."""
    classes, images, labels, is_train, members = [], [], [], [], {}
    number = 0
    for label in range(n_classes):
        name = f"{label + 1:03}.Bird_{label}"
        classes.append(f"{label + 1} {name}")
        for i in range(3):
            number += 1
            images.append(f"{number} {name}/{i}.jpg")
            labels.append(f"{number} {label + 1}")
            is_train.append(f"{number} {int(i != 1)}")
            members[f"CUB_200_2011/images/{name}/{i}.jpg"] = PICTURES[label % 3]
    tables = {
        "classes": classes, "images": images, "image_class_labels": labels, "train_test_split": is_train
    }  # fmt: skip
    for table, lines in tables.items():
        members[f"CUB_200_2011/{table}.txt"] = ("\n".join(lines) + "\n").encode()
    return write_tar(folder / "CUB_200_2011.tgz", members | {"attributes.txt": b"1 x\n"})


def food101(folder: Path, n_classes: int = 101) -> Path:
    """2 training images and 1 test image per class."""
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    members = {}
    for label in range(n_classes):
        name = f"dish_{label:03}"
        lists["train"][name], lists["test"][name] = [f"{name}/1", f"{name}/2"], [f"{name}/3"]
        members |= {f"food-101/images/{name}/{i}.jpg": PICTURES[label % 3] for i in (1, 2, 3)}
    for split, found in lists.items():
        members[f"food-101/meta/{split}.json"] = json.dumps(found).encode()
    return write_tar(folder / "food-101.tar.gz", members)


def cars(folder: Path, n_classes: int = 196) -> Path:
    """2 training images and 1 test image per class, in three archives and the test labels beside them."""
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    kinds = [(field, object) for field in fields]

    def table(per_class: int) -> tuple[bytes, dict[str, bytes]]:
        rows, images = [], {}
        for i in range(n_classes * per_class):
            label, file = i % n_classes, f"{i + 1:05}.jpg"
            rows.append((1, 1, 20, 20, label + 1, file))
            images[file] = PICTURES[label % 3]
        return _mat(annotations=np.array([rows], dtype=kinds).reshape(1, -1)), images

    train, train_images = table(2)
    test, test_images = table(1)
    names = np.empty((1, n_classes), object)
    names[0] = [f"Car {i} 2012" for i in range(n_classes)]
    devkit = {"devkit/cars_meta.mat": _mat(class_names=names), "devkit/cars_train_annos.mat": train}
    write_tar(folder / "cars_train.tgz", {f"cars_train/{k}": v for k, v in train_images.items()})
    write_tar(folder / "cars_test.tgz", {f"cars_test/{k}": v for k, v in test_images.items()})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(test)
    return write_tar(folder / "car_devkit.tgz", devkit)


def imagenet(folder: Path, n_classes: int = 1000) -> Path:
    """1 training image and 1 validation image per class; validation runs backwards through the classes."""
    ids = [f"n{7 * i + 1000000:08}" for i in range(n_classes)]
    outer = {}
    for label, wnid in enumerate(ids):
        inner = write_tar(folder / "inner.tar", {f"{wnid}_1.JPEG": PICTURES[label % 3]})
        outer[f"{wnid}.tar"] = inner.read_bytes()
    inner.unlink()
    # The devkit numbers classes in an order of its own, and holds synsets above them.
    kinds = [(field, object) for field in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(n_classes - label, wnid, "word, other", "gloss", 0) for label, wnid in enumerate(ids)]
    rows.append((n_classes + 1, "n00001740", "entity", "gloss", 3))
    top = "ILSVRC2012_devkit_t12/data"
    truth = "".join(f"{i + 1}\n" for i in range(n_classes)).encode()
    write_tar(
        folder / "ILSVRC2012_devkit_t12.tar.gz",
        {
            f"{top}/meta.mat": _mat(synsets=np.array([rows], dtype=kinds).reshape(-1, 1)),
            f"{top}/ILSVRC2012_validation_ground_truth.txt": truth,
        },
    )
    val = {f"ILSVRC2012_val_{i + 1:08}.JPEG": PICTURES[(n_classes - 1 - i) % 3] for i in range(n_classes)}
    write_tar(folder / "ILSVRC2012_img_val.tar", val)
    return write_tar(folder / "ILSVRC2012_img_train.tar", outer)


def _mat(**arrays: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


WRITERS = {
    "cifar10": lambda folder, **k: cifar(folder, "cifar10", **k),
    "cifar100": lambda folder, **k: cifar(folder, "cifar100", **k),
    "cub200": cub200,
    "cars": cars,
    "food101": food101,
    "imagenet": imagenet,
}
"""Each set's writer: it needs a folder and, for a wrong class count, `n_classes`."""
