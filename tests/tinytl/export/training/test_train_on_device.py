"""The program for a device: as a file of its own, and each of its parts beside what tinytl does."""

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.support.cases import small
from tests.support.device_folder import (
    BIAS,
    CLASSES,
    FEATURES,
    HEAD_BIAS,
    MICRO_BATCH,
    PROGRAM,
    RESOLUTION,
    SHAPES,
    SMOOTHING,
    WEIGHT,
    TinyNet,
    initial_state,
    write_device_folder,
    write_manifest,
    write_pictures,
)
from tests.support.places import ROOT
from tinytl.data.batches import eval_batches, train_batches
from tinytl.data.pictures import decode_square
from tinytl.data.sets.listing import image_files, stored_side
from tinytl.export.training import train_on_device as device
from tinytl.export.training.folder import OLDEST
from tinytl.training.lr_schedule import lr_factor
from tinytl.training.step import training_step

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test writes to."""
    return write_device_folder(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "all")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_device_folder(tmp_path / "device")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(folder: Path, *words: object) -> tuple[int, str, str]:
        code = device.main([str(word) for word in words], folder)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def manifest_of(folder: Path, **changes: Any) -> SimpleNamespace:
    manifest = device.read_manifest(folder)
    vars(manifest).update(changes)
    return manifest


def checkpoint_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "checkpoint.npz") as file:
        return dict(file)


def found_in(pictures: Path) -> device.Pictures:
    return device.find_pictures(pictures, {".jpg", ".png"})


def in_tinytl(pictures: Path) -> Any:
    names = [(f"{path.parent.name}/{path.name}", CLASSES.index(name)) for path, name in found_in(pictures)]
    return image_files(pictures, names, stored_side(RESOLUTION))


def test_it_imports_numpy_onnxruntime_and_pillow_alone() -> None:
    nodes = list(ast.walk(ast.parse(PROGRAM.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_ten_steps_are_those_of_torch(exported: Path, optimizer: str, weight_decay: float) -> None:
    manifest = manifest_of(exported, optimizer=optimizer, weight_decay=weight_decay)
    state = device.read_state(exported / "state.npz", manifest)
    net = TinyNet(state)
    rates = {
        BIAS: manifest.learning_rates.bias,
        **dict.fromkeys((WEIGHT, HEAD_BIAS), manifest.learning_rates.classifier),
    }
    groups = [{"params": [net.get_parameter(name)], "lr": lr} for name, lr in rates.items()]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if optimizer == "sgd":
        theirs: torch.optim.Optimizer = torch.optim.SGD(groups, 1, momentum=0.9, weight_decay=weight_decay)
    else:
        theirs = kinds[optimizer](groups, weight_decay=weight_decay)
    rng = np.random.default_rng(1)
    for step in range(10):
        factor = 1 / (step + 1)
        for group, lr in zip(theirs.param_groups, rates.values(), strict=True):
            group["lr"] = lr * factor
        gradients = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
        for name, gradient in gradients.items():
            net.get_parameter(name).grad = torch.from_numpy(gradient.copy())
        before = {name: state[name] for name in SHAPES}
        device.update_(state, gradients, manifest, factor)
        theirs.step()
        assert all(state[name] is before[name] for name in SHAPES), "in place"
    assert state["step"] == 10
    moments = ["momentum_buffer"] if optimizer == "sgd" else ["exp_avg", "exp_avg_sq"]
    for name in SHAPES:
        parameter = net.get_parameter(name)
        np.testing.assert_allclose(state[name], parameter.detach(), rtol=1e-6, atol=1e-6)
        for prefix, moment in zip(("first", "second"), moments, strict=False):
            np.testing.assert_allclose(
                state[f"{prefix}:{name}"], theirs.state[parameter][moment], rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
@pytest.mark.parametrize("warmup_epochs", [0, 1.5])
def test_learning_rates_are_those_of_tinytl(schedule: str, warmup_epochs: float) -> None:
    config = small(lr_schedule=schedule, warmup_epochs=warmup_epochs, epochs=4)
    ours = SimpleNamespace(name=schedule, warmup_epochs=warmup_epochs, gamma=config.gamma)
    steps = range(4 * 5)
    assert [device.lr_factor(ours, 4, step, 5) for step in steps] == [lr_factor(config, s, 5) for s in steps]


ODD = {
    "turned.jpg": lambda path: _with_orientation(path, 6),
    "mirrored.png": lambda path: _with_orientation(path, 4),
    "large.jpg": lambda path: _noise(90, 130).save(path),
    "grey.png": lambda path: _noise(30, 20).convert("L").save(path),
    "palette.gif": lambda path: _noise(30, 20).convert("P").save(path),
    "transparent.png": lambda path: _transparent().save(path),
    "12_of_16_bits.png": lambda path: Image.fromarray(_ramp(4000).astype(np.uint16)).save(path),
    "16_bits.tiff": lambda path: Image.fromarray(_ramp(65000).astype(np.uint16)).save(path),
    "small.bmp": lambda path: _noise(5, 7).save(path),
    "cmyk.jpg": lambda path: _noise(30, 20).convert("CMYK").save(path),
    "one pixel ü.png": lambda path: _noise(1, 1).save(path),
    "photograph.jfif": lambda path: _noise(30, 20).save(path, "JPEG"),
    "garbled_exif.jpg": lambda path: _noise(30, 20).save(path, exif=b"Exif\x00\x00garbage"),
}


def _noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8))


def _ramp(most: int) -> np.ndarray:
    return np.linspace(0, most, 30 * 40).reshape(30, 40)


def _transparent() -> Image.Image:
    picture = _noise(30, 20).convert("RGBA")
    picture.putalpha(Image.fromarray(_ramp(255).astype(np.uint8)[:30, :20]))
    return picture


def _with_orientation(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _noise(30, 21).save(path, exif=exif)


@pytest.mark.parametrize("name", ODD)
def test_a_picture_is_read_as_tinytl_reads_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ODD[name](path)
    side = stored_side(RESOLUTION)
    assert np.array_equal(np.asarray(device.square(path, side)), decode_square(path, side))


@pytest.mark.parametrize("flip", [True, False])
def test_an_epoch_has_the_pictures_and_crops_of_tinytl(exported: Path, pictures: Path, flip: bool) -> None:
    network = device.Classifier(exported, 1)
    network.manifest.augmentation.flip = flip
    files, found = in_tinytl(pictures), found_in(pictures)
    rng = np.random.default_rng((5, 2))
    ours = [found[index] for index in rng.permutation(len(found))]
    rows = [(f["images"][i].copy(), f["labels"][i]) for f in network.inputs(ours, rng) for i in rows_of(f)]
    theirs = train_batches(
        files,
        batch_size=8,
        resolution=RESOLUTION,
        crop_scale_min=0.5,
        flip=flip,
        seed=5,
        epoch=2,
        drop_single=False,
        workers=0,
    )
    expected = [(image, label) for batch in theirs for image, label in zip(*batch, strict=True)]
    assert [label for _, label in rows] == [int(label) for _, label in expected]
    for (image, _), (other, _) in zip(rows, expected, strict=True):
        assert np.abs(image.astype(int) - other.numpy().astype(int)).max() <= 1


def test_judged_pictures_are_those_of_tinytl(exported: Path, pictures: Path) -> None:
    network, files = device.Classifier(exported, 1), in_tinytl(pictures)
    rows = [f["images"][i].copy() for f in network.inputs(found_in(pictures)) for i in rows_of(f)]
    expected, _ = next(eval_batches(files, batch_size=len(files), resolution=RESOLUTION, workers=0))
    assert np.abs(np.stack(rows).astype(int) - expected.numpy().astype(int)).max() <= 1


def rows_of(feed: dict[str, np.ndarray]) -> np.ndarray:
    return np.flatnonzero(feed["weights"])


def gradients_of(
    network: device.Classifier, found: device.Pictures
) -> tuple[float, int, dict[str, np.ndarray]]:
    return network.gradients(network.session("step.onnx"), network.inputs(found))


@pytest.mark.parametrize("class_weights", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("n_pictures", [1, 3, 7])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(
    exported: Path, pictures: Path, n_pictures: int, class_weights: tuple[float, ...]
) -> None:
    network = device.Classifier(exported, 1)
    network.state["class_weights"] = np.array(class_weights, np.float32)
    found = found_in(pictures)[::3][:n_pictures]
    loss, hits, gradients = gradients_of(network, found)
    net = TinyNet(network.state)
    labels = torch.tensor([CLASSES.index(name) for _, name in found])
    images = np.concatenate([f["images"][rows_of(f)] for f in network.inputs(found)])
    logits = net(torch.from_numpy(images).float())
    losses = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction="none")
    whole = (losses * torch.tensor(class_weights)[labels]).sum()
    whole.backward()
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    assert hits == int((logits.argmax(1) == labels).sum())
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, net.get_parameter(name).grad, rtol=1e-4, atol=1e-5)


def test_dropout_scales_what_it_keeps(tmp_path: Path, pictures: Path) -> None:
    network = device.Classifier(write_device_folder(tmp_path, dropout=0.4), 1)
    found, rng = found_in(pictures), np.random.default_rng(0)
    masks = list[np.ndarray]()
    for step in range(40):
        network.state["step"][...] = step
        masks += [feed["keep"] for feed in network.inputs(found, rng)]
    kept = np.stack(masks)
    assert len({mask.tobytes() for mask in masks}) > len(masks) / 2
    assert kept.shape[1:] == (MICRO_BATCH, FEATURES)
    assert kept.dtype == np.float32
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1) / np.float32(0.6)}
    assert kept.mean() == pytest.approx(1, abs=0.06)
    assert [feed for feed in network.inputs(found) if "keep" in feed] == [], "only in training"
    assert network.train_epoch(found, 3, lambda n_done: None)["loss"] > 0


def test_dropout_leaves_the_crops_as_they_are(exported: Path, tmp_path: Path, pictures: Path) -> None:
    with_dropout = write_device_folder(tmp_path, dropout=0.4)
    images = []
    for folder in (exported, with_dropout):
        network, rng = device.Classifier(folder, 1), np.random.default_rng(0)
        found = found_in(pictures)
        images.append(np.stack([feed["images"].copy() for feed in network.inputs(found, rng)]))
    assert np.array_equal(*images)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_two_epochs_end_with_the_parameters_of_tinytl(
    tmp_path: Path, pictures: Path, optimizer: str, say: Say
) -> None:
    folder = write_device_folder(tmp_path / "device", optimizer=optimizer)
    assert say(folder, "train", pictures, "--epochs", 2)[0] == 0
    files, net = in_tinytl(pictures), TinyNet(initial_state())
    config = small(lr_schedule="cosine", warmup_epochs=0.5, epochs=2)
    rates = {BIAS: 0.01, WEIGHT: 0.03, HEAD_BIAS: 0.03}
    groups = [{"params": [net.get_parameter(name)], "lr": lr} for name, lr in rates.items()]
    kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    theirs = kind(groups, 1.0, weight_decay=0.01, **({"momentum": 0.9} if optimizer == "sgd" else {}))
    for epoch in range(2):
        batches = train_batches(
            files,
            batch_size=8,
            resolution=RESOLUTION,
            crop_scale_min=0.5,
            flip=True,
            seed=5,
            epoch=epoch,
            drop_single=False,
            workers=0,
        )
        for step, (images, labels) in enumerate(batches):
            for group, lr in zip(theirs.param_groups, rates.values(), strict=True):
                group["lr"] = lr * lr_factor(config, epoch * 3 + step, 3)
            training_step(
                net, theirs, torch.Tensor.float, images, labels, micro_batch_size=2, label_smoothing=SMOOTHING
            )
    state = checkpoint_of(folder)
    assert (state["step"], state["epoch"]) == (6, 2)
    for name in SHAPES:
        moved = np.abs(state[name] - initial_state()[name]).max()
        assert moved > 1e-3
        assert np.abs(state[name] - net.get_parameter(name).detach().numpy()).max() < 1e-3 * moved


def test_an_exported_state_continues_with_its_moments(folder: Path, pictures: Path, say: Say) -> None:
    assert say(folder, "train", pictures, "--epochs", 2)[0] == 0
    expected = checkpoint_of(folder)
    done = (0, "21 to train, 0 to validate; 2 of 1 epochs are done\n", "")
    assert say(folder, "train", pictures, "--epochs", 1, "--resume") == done
    (folder / "checkpoint.npz").unlink()
    assert say(folder, "train", pictures, "--epochs", 2)[0] == 0
    half = write_device_folder(folder.parent / "half")
    network = device.Classifier(half, 1)
    network.train_epoch(found_in(pictures), 2, lambda n_done: None)
    state = {name: array for name, array in network.state.items() if name != "manifest"}
    np.savez(half / "state.npz", **state)
    write_manifest(half)
    assert say(half, "train", pictures, "--epochs", 2)[0] == 0
    assert_same(checkpoint_of(half), expected)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """But for the manifest's digest, bit for bit."""
    assert found.keys() == expected.keys()
    names = found.keys() - {"manifest"}
    assert [name for name in names if not np.array_equal(found[name], expected[name])] == []


def test_train_evaluate_and_predict(pictures: Path, tmp_path: Path, say: Say) -> None:
    rates = {"bias": 0.01, "classifier": 0.3}
    folder, data = write_device_folder(tmp_path / "device", learning_rates=rates), tmp_path / "data"
    write_pictures(data / "val", per_class=3)
    (data / "train").symlink_to(pictures)
    before = say(folder, "evaluate", data)
    code, out, err = say(folder, "train", data, "--epochs", 30, "--threads", 1, "--budget-mib", 10**6)
    assert (code, err) == (0, "")
    first, *epochs = out.splitlines()
    assert first == "21 to train, 9 to validate; 0 of 30 epochs are done"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 31))
    assert epochs[-1].startswith(f"epoch 30  loss {rows[-1]['loss']:.4g}  train_accuracy_top1 ")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["process_peak_mib"] == pytest.approx(device.peak_mib(), rel=0.1)
    found = say(folder, "evaluate", data)
    assert found[:2] == (0, f"accuracy {rows[-1]['accuracy_top1']:.4f} of 9 pictures\n")
    assert found != before
    files = sorted((data / "val" / "red").iterdir())
    code, out, err = say(folder, "predict", *files, "--top", 2)
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in files]
    for line in lines:
        (best, share), (_, second) = (entry.split() for entry in line[1:])
        assert best == "red"
        assert 0 < float(second) <= float(share) <= 1
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".part") == []


def start(folder: Path, *words: object, blocked: Path) -> subprocess.Popen[str]:
    """Starts the folder's own program, in a Python that has no torch."""
    blocked.mkdir(exist_ok=True)
    (blocked / "torch.py").write_text("raise ImportError('no torch here')")
    (blocked / "tinytl.py").write_text("raise ImportError('no tinytl here')")
    command = [sys.executable, str(folder / PROGRAM.name), *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(blocked)}
    return subprocess.Popen(
        command,
        env=env,
        cwd=blocked,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )


def interrupted(folder: Path, pictures: Path, blocked: Path, number: signal.Signals) -> tuple[int, str]:
    """Trains until the second epoch is done, and sends a signal in the third."""
    running = start(folder, "train", pictures, "--epochs", 5000, "--threads", 1, blocked=blocked)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("epoch 2 "):
            break
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    return running.returncode, err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_was_cut_off_ends_as_one_that_was_not(
    folder: Path, pictures: Path, tmp_path: Path, number: signal.Signals, say: Say
) -> None:
    code, err = interrupted(folder, pictures, tmp_path / "blocked", number)
    assert code == (-9 if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        assert err == "interrupted: the last whole epoch stays, train --resume continues after it\n"
    done = int(checkpoint_of(folder)["epoch"])
    assert done >= 2
    code, _, err = say(folder, "train", pictures, "--epochs", 5000)
    assert (code, err.count("\n")) == (2, 1)
    assert "checkpoint.npz is there: add --resume, or remove it" in err
    with (folder / "metrics.jsonl").open("a") as file:  # as if killed between the line and the checkpoint
        file.write(json.dumps({"epoch": done + 1}) + "\n")
    # The schedule is that of 5,000 epochs, of which the rest are not trained here.
    resumed, whole = (
        device.Classifier(folder, 1),
        device.Classifier(write_device_folder(tmp_path / "whole"), 1),
    )
    for network in (resumed, whole):
        while network.state["epoch"] < done + 1:
            network.train_epoch(found_in(pictures), 5000, lambda n_done: None)
    assert_same(resumed.state, whole.state)
    assert say(folder, "train", pictures, "--epochs", done + 1, "--resume")[0] == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, done + 2))
    assert "loss" in rows[-1]


def fails(said: tuple[int, str, str], *texts: str) -> None:
    code, _, err = said
    assert (code, err.count("\n")) == (2, 1), err
    assert [text for text in texts if text not in err] == []


def test_new_classes_start_a_new_head(folder: Path, pictures: Path, tmp_path: Path, say: Say) -> None:
    assert say(folder, "train", pictures, "--epochs", 1)[0] == 0
    other = write_pictures(tmp_path / "other", classes=("blue", "green", "violet"))
    fails(
        say(folder, "train", other, "--resume"),
        "differ in red, violet: rename or fill folders; --new",
    )
    fails(say(folder, "evaluate", other), f"{other}: violet is none of the classes blue, green, red")
    before = checkpoint_of(folder)
    network = device.Classifier(folder, 1)
    network.take_classes(["blue", "green", "violet"], True)
    assert np.array_equal(network.parameters[BIAS], before[BIAS]), "the rest stays"
    bound = 1 / np.sqrt(FEATURES)
    assert 0 < np.abs(network.parameters[WEIGHT]).max() <= bound
    assert not np.array_equal(network.parameters[WEIGHT], before[WEIGHT])
    assert [
        name for name in network.state if name.startswith(("first:", "second:")) and network.state[name].any()
    ] == []
    assert say(folder, "train", other, "--resume", "--new-classes", "--epochs", 2)[0] == 0
    after = checkpoint_of(folder)
    assert (after["classes"].tolist(), after["epoch"]) == (["blue", "green", "violet"], 2)
    assert say(folder, "train", other, "--resume", "--new-classes", "--epochs", 3)[0] == 0
    assert checkpoint_of(folder)["epoch"] == 3, "a head that is new already goes on"
    assert "violet" in say(folder, "predict", other / "violet" / "0.png", "--top", 3)[1]
    fewer = write_pictures(tmp_path / "fewer", classes=("blue", "green"))
    fails(
        say(folder, "train", fewer, "--resume", "--new-classes"),
        "pictures of 2 classes, a network of 3, differ in violet: rename or fill folders",
        "of more or fewer, export another network",
    )
    one = write_pictures(tmp_path / "one", classes=("blue",))
    fails(
        say(folder, "train", one, "--resume"),
        "pictures of 1 classes, a network of 3, differ in green, violet",
    )


def test_class_weights_are_not_those_of_other_classes(tmp_path: Path, pictures: Path) -> None:
    network = device.Classifier(write_device_folder(tmp_path, class_weights=(0.5, 1.0, 2.0)), 1)
    assert set(next(network.inputs(found_in(pictures)))["weights"]) == {0.5}
    network.take_classes(["a", "b", "c"], True)
    found = [(path, "a") for path, _ in found_in(pictures)]
    assert set(next(network.inputs(found))["weights"]) == {1.0}


def test_a_budget_ends_the_training(folder: Path, pictures: Path, say: Say) -> None:
    fails(say(folder, "train", pictures, "--budget-mib", 5), "the process needs", "MiB, over --budget-mib 5")
    assert not (folder / "checkpoint.npz").exists()
    assert say(folder, "train", pictures, "--epochs", 1)[0] == 0
    whole = checkpoint_of(folder)
    fails(say(folder, "train", pictures, "--resume", "--budget-mib", 5), "over --budget-mib 5")
    assert_same(checkpoint_of(folder), whole)


@pytest.mark.parametrize("name", ["step.onnx", "predict.onnx", "state.npz"])
def test_damage_is_named(folder: Path, pictures: Path, name: str, say: Say) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    fails(say(folder, "train", pictures), f"{name} is damaged or of another export", "copy it again")
    (folder / name).unlink()
    fails(say(folder, "evaluate", pictures), name, "No such file", "copy it again")


def test_a_manifest_that_is_none(folder: Path, pictures: Path, say: Say) -> None:
    (folder / "README.md").write_text("notes of my own")
    assert say(folder, "evaluate", pictures)[0] == 0
    write_manifest(folder, format=1)
    fails(say(folder, "evaluate", pictures), "of another version than this program")
    for text in ("{", "[]", "{}"):
        (folder / "manifest.json").write_text(text)
        fails(say(folder, "evaluate", pictures), "is no whole export")
    (folder / "manifest.json").unlink()
    fails(say(folder, "evaluate", pictures), "is no whole export", "manifest.json")


def test_a_checkpoint_of_another_folder_or_damaged(
    folder: Path, pictures: Path, tmp_path: Path, say: Say
) -> None:
    other = write_device_folder(tmp_path / "other", seed=6)
    assert say(other, "train", pictures, "--epochs", 1)[0] == 0
    content = (other / "checkpoint.npz").read_bytes()
    (folder / "checkpoint.npz").write_bytes(content)
    fails(say(folder, "train", pictures, "--resume"), "checkpoint.npz is of another export")
    for place in range(0, len(content), 41):
        changed = bytearray(content)
        changed[place] ^= 255
        (other / "checkpoint.npz").write_bytes(changed)
        try:  # some bytes of a zip are read by nobody
            state = device.read_state(other / "checkpoint.npz", device.read_manifest(other))
        except device.UserError as error:
            assert "checkpoint.npz is " in str(error)
        else:
            (other / "checkpoint.npz").write_bytes(content)
            assert_same(state, checkpoint_of(other))


def test_an_operation_that_the_runtime_lacks_is_named(folder: Path, pictures: Path, say: Say) -> None:
    model = onnx.load(folder / "step.onnx")
    model.graph.node[5].op_type = "Unheard"
    onnx.save(model, folder / "step.onnx")
    write_manifest(folder)
    remedy = "python -m pip install onnxruntime==1.31.1"
    fails(say(folder, "train", pictures), "step.onnx failed", "Unheard", remedy, onnxruntime.__version__)


def test_pictures_that_are_none(folder: Path, tmp_path: Path, say: Say) -> None:
    data = write_pictures(tmp_path / "data")
    (data / "red" / "3.jpg").write_bytes((data / "red" / "3.jpg").read_bytes()[:200])
    fails(say(folder, "train", data), f"{data / 'red' / '3.jpg'} does not decode as a picture", "repair")
    assert not (folder / "checkpoint.npz").exists()
    fails(say(folder, "predict", data / "red" / "3.jpg"), "does not decode")
    fails(say(folder, "predict", data / "none.jpg"), "none.jpg")
    (tmp_path / "empty" / "red").mkdir(parents=True)
    (tmp_path / "empty" / "red" / ".hidden.jpg").touch()
    for folder_of_none in (tmp_path / "empty", tmp_path / "missing"):
        fails(say(folder, "train", folder_of_none), "has no pictures in folders of classes")
        fails(say(folder, "evaluate", folder_of_none), "has no pictures in folders of classes")


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path, pictures: Path, say: Say) -> None:
    folder = write_device_folder(tmp_path, learning_rates={"bias": 1e38, "classifier": 1e38}, optimizer="sgd")
    with np.errstate(all="ignore"):
        fails(say(folder, "train", pictures), "no finite loss in step", "of epoch 1")
    assert not (folder / "checkpoint.npz").exists()


def test_files_that_are_no_pictures_are_named(folder: Path, tmp_path: Path, say: Say) -> None:
    data = write_pictures(tmp_path / "data")
    assert say(folder, "evaluate", data)[2] == ""
    for name in ("notes.txt", "2.heic", "README", "sub/3.TXT", ".hidden.txt", "@eaDir/4.jpg"):
        (data / "red" / name).parent.mkdir(exist_ok=True)
        (data / "red" / name).write_bytes(b"no picture")
    said = f"{data}: 4 files that are no pictures are left out (.TXT, .heic, .txt, no ending)\n"
    assert say(folder, "evaluate", data)[2] == said
    assert say(folder, "train", data, "--epochs", 1)[2] == said
    (data / "red" / "5.avif").write_bytes(b"what this Pillow does not read")
    code, out, err = say(folder, "evaluate", data)
    fails((code, out, err.removeprefix(said)), "5.avif does not decode as a picture")


def test_a_folder_that_cannot_be_written_is_named_before_an_epoch(
    folder: Path, pictures: Path, say: Say
) -> None:
    (folder / "metrics.jsonl.part").mkdir()
    said = say(folder, "train", pictures)
    fails(said, "metrics.jsonl cannot be written (Is a directory): what was there before stays")
    assert "epoch 1" not in said[1]


def test_odd_names_are_printed(folder: Path, tmp_path: Path, say: Say) -> None:
    picture = tmp_path / os.fsdecode(b"gr\xfcn \xc3\xb6.png")
    _noise(20, 20).save(picture)
    code, out, _ = say(folder, "predict", picture)
    assert (code, out.count("\n")) == (0, 1)


KILLED = """
import os, runpy, signal, sys
def fsync(number):
    if "checkpoint" in os.readlink(f"/proc/self/fd/{number}"):
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_kill_while_the_checkpoint_is_written_leaves_the_old_one(
    folder: Path, pictures: Path, say: Say
) -> None:
    assert say(folder, "train", pictures, "--epochs", 1)[0] == 0
    whole = (folder / "checkpoint.npz").read_bytes()
    words = [str(folder / PROGRAM.name), "train", str(pictures), "--resume"]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "checkpoint.npz.part").exists() and (folder / "checkpoint.npz").read_bytes() == whole
    assert say(folder, "train", pictures, "--resume")[0] == 0
    assert (checkpoint_of(folder)["epoch"], (folder / "checkpoint.npz.part").exists()) == (3, False)


FULL_DISK = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_full_disk_leaves_the_old_checkpoint(folder: Path, pictures: Path, say: Say) -> None:
    assert say(folder, "train", pictures, "--epochs", 1)[0] == 0
    whole, metrics = (folder / "checkpoint.npz").read_bytes(), (folder / "metrics.jsonl").read_text()
    command = [
        sys.executable,
        "-c",
        FULL_DISK,
        "1000",
        str(folder / PROGRAM.name),
        "train",
        str(pictures),
        "--resume",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    fails((done.returncode, "", done.stderr), "checkpoint.npz cannot be written (File too large)", "stays")
    assert (folder / "checkpoint.npz").read_bytes() == whole
    assert (folder / "metrics.jsonl").read_text().startswith(metrics)
    assert not (folder / "checkpoint.npz.part").exists()
    assert say(folder, "train", pictures, "--resume")[0] == 0
    rows = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train"], "FOLDER"),
        (["train", "x", "--epochs", "0"], "argument --epochs: 0 is no whole number above 0"),
        (["train", "x", "--budget-mib", "many"], "argument --budget-mib: many is no whole number"),
        (["predict"], "FILE"),
        (["try"], "invalid choice: 'try'"),
        ([], "COMMAND"),
        (["train", "x", "--resumed"], "unrecognized arguments: --resumed"),
    ],
)
def test_a_mistyped_command_is_one_line(
    exported: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        device.main(words, exported)
    fails((int(ended.value.code or 0), "", capsys.readouterr().err), text)


def test_help_names_each_flag_and_unit(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, texts in (
        (["--help"], ["train", "evaluate", "predict", "step.onnx"]),
        (
            ["train", "--help"],
            ["--epochs", "--resume", "--budget-mib", "MiB", "--new-classes", "--threads"],
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            device.main(words, exported)
        out = capsys.readouterr().out
        assert ended.value.code == 0
        assert [text for text in texts if text not in out] == []


@pytest.mark.parametrize("module", ["numpy", "onnxruntime", "PIL"])
def test_a_package_that_is_missing_is_a_line_that_installs_it(
    exported: Path, tmp_path: Path, module: str
) -> None:
    text = f"No module named '{module}'"
    (tmp_path / f"{module}.py").write_text(f'raise ModuleNotFoundError("{text}")')
    done = subprocess.run(
        [sys.executable, str(exported / PROGRAM.name), "evaluate", "x"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = (done.returncode, done.stdout, done.stderr)
    fails(said, f"{text}: python -m pip install --upgrade numpy onnxruntime pillow")


def test_a_terminal_has_one_live_line(
    folder: Path, pictures: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, _, err = say(folder, "train", pictures, "--epochs", 1)
    assert (code, err.count("\n")) == (0, 0)
    assert next(part for part in err.split("\r") if "of 21 pictures" in part).startswith("8 of 21 pictures")


@pytest.mark.slow
@pytest.mark.parametrize(
    "packages",
    [
        [f"{name}=={version(name)}" for name in OLDEST],
        ["--resolution=lowest", *(f"{name}>={oldest}" for name, oldest in OLDEST.items())],
    ],
    ids=["these", "oldest"],
)
def test_it_trains_where_numpy_onnxruntime_and_pillow_are_all(
    folder: Path, pictures: Path, tmp_path: Path, packages: list[str]
) -> None:
    uv, python = ROOT / ".venv" / "bin" / "uv", tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--only-binary=:all:", "--python", python]
    subprocess.run([*install, *packages], check=True)

    def train(place: Path, *words: str, n_epochs: int = 4) -> subprocess.Popen[str]:
        command = [python, place / PROGRAM.name, "train", pictures, "--epochs", str(n_epochs), *words]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True)
    assert has_torch.returncode == 1
    whole = write_device_folder(tmp_path / "whole")
    _, err = train(whole).communicate(timeout=120)
    assert err == ""
    running = train(folder)
    assert running.stdout is not None
    assert any(line.startswith("epoch 1 ") for line in running.stdout)
    running.kill()
    running.communicate()
    _, err = train(folder, "--resume").communicate(timeout=120)
    assert err == ""
    assert_same(checkpoint_of(folder), checkpoint_of(whole))
