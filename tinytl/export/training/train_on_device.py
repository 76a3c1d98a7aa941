"""Trains the classifier in this folder on your pictures, judges it, and labels pictures with it.

step.onnx is the network's forward and backward pass, predict.onnx its forward pass alone; both read the
trained parameters as inputs. Pictures, optimiser and checkpoints are here. README.md says more.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TypeAlias

try:
    import numpy as np
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime
    from PIL import Image, ImageOps
except ImportError as error:
    print(f"{error}: python -m pip install --upgrade numpy onnxruntime pillow", file=sys.stderr)
    raise SystemExit(2) from None

FOLDER, CHECKPOINT = Path(__file__).resolve().parent, "checkpoint.npz"
# What onnxruntime raises if it lacks an operation, or memory.
RUNTIME_ERRORS = tuple(e for e in vars(runtime).values() if isinstance(e, type) and issubclass(e, Exception))
Arrays = dict[str, np.ndarray]
Pictures = Sequence[tuple[Path, str]]  # with the names of their classes
Graph: TypeAlias = onnxruntime.InferenceSession
Image.MAX_IMAGE_PIXELS = None  # a limit for servers that open strangers' files
warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on metadata, without the file's name


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line."""


def read_manifest(folder: Path) -> SimpleNamespace:
    """Returns `manifest.json`, with its own SHA-256 as `digest`, if the folder's other files have theirs."""
    try:
        text = (folder / "manifest.json").read_bytes()
        manifest: SimpleNamespace = json.loads(text, object_hook=lambda pairs: SimpleNamespace(**pairs))
        if manifest.format != 2:
            raise ValueError("it is of another version than this program")
        for name, digest in vars(manifest.sha256).items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} is damaged or of another export: its SHA-256 differs")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} is no whole export ({error}): copy it again") from None
    manifest.digest = hashlib.sha256(text).hexdigest()
    return manifest


def read_state(path: Path, manifest: SimpleNamespace) -> Arrays:
    """Returns what training changes, of an export or a checkpoint: parameters, moments, counts, classes."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            state = dict(arrays)
        if state.keys() - {"manifest"} != set(manifest.arrays):
            raise ValueError("it has not the arrays of an export")
    except Exception as error:  # damaged archives raise anything
        raise UserError(f"{path} is damaged ({error}): remove it") from None
    if state.setdefault("manifest", np.array(manifest.digest)) != manifest.digest:
        raise UserError(f"{path} is of another export: remove it, or move it to the folder that it is from")
    return state


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file beside `path` and renames it: after a kill or on a full disk the old file is whole."""
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a disk that cannot be written it fails as well
            beside.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror}): what was there before stays") from None


def find_pictures(folder: Path, endings: Collection[str]) -> Pictures:
    """Returns the pictures anywhere under each folder in `folder`, in order; names what is left out."""
    paths = [path.relative_to(folder) for path in sorted(folder.glob("*/**/*")) if path.is_file()]
    shown = [path for path in paths if not any(part.startswith((".", "@")) for part in path.parts)]
    pictures = [(folder / path, path.parts[0]) for path in shown if path.suffix.lower() in endings]
    if not pictures:
        raise UserError(f"{folder} has no pictures in folders of classes, such as cat/1.jpg")
    if others := [path.suffix or "no ending" for path in shown if path.suffix.lower() not in endings]:
        kinds = ", ".join(sorted(set(others)))
        print(f"{folder}: {len(others)} files that are no pictures are left out ({kinds})", file=sys.stderr)
    return pictures


def square(path: Path, side: int) -> Image.Image:
    """Decodes a picture's central square, `side` pixels wide: RGB, upright, white behind transparency."""
    try:
        with Image.open(path) as opened:
            opened.draft(None, (side, side))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            picture = ImageOps.exif_transpose(opened)
        if picture.mode == "F":
            raise ValueError("its pixels are floats: save it with 8 bits")
        if picture.mode.startswith("I"):  # 16 bits, of which Pillow would cut off what is over 255
            values = np.asarray(picture).astype(np.int64).clip(0)
            depth = next(bits for bits in (8, 10, 12, 14, 16, 32) if values.max() < 2**bits)
            picture = Image.fromarray((values >> (depth - 8)).astype(np.uint8))
        layers = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything, and each means that this file is no picture
        raise UserError(f"{path} does not decode as a picture ({error}): repair or remove it") from None
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    return picture.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BILINEAR)


def random_crop(picture: Image.Image, scale_min: float, flip: bool, rng: np.random.Generator) -> Image.Image:
    """Cuts out a box between 3:4 and 4:3 with at least `scale_min` of the area; mirrors half of them."""
    side, limit = picture.width, math.log(4 / 3)
    area, aspect = rng.uniform(scale_min, 1.0), math.exp(rng.uniform(-limit, limit))
    height = min(side, max(1, round(side * math.sqrt(area / aspect))))
    width = min(side, max(1, round(side * math.sqrt(area * aspect))))
    top, left = (int(rng.random() * (side - edge + 1)) for edge in (height, width))
    box = picture.crop((left, top, left + width, top + height))
    return ImageOps.mirror(box) if flip and rng.random() < 0.5 else box


def lr_factor(schedule: SimpleNamespace, epochs: int, step: int, steps_per_epoch: int) -> float:
    """Returns what multiplies the learning rates at `step` (from 0): warm-up, then the schedule."""
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    step, n_steps = step - warmup_steps, epochs * steps_per_epoch - warmup_steps
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / n_steps))
    return float(schedule.gamma ** (step // steps_per_epoch)) if schedule.name == "exponential" else 1.0


def update_(state: Arrays, gradients: Arrays, manifest: SimpleNamespace, factor: float) -> None:
    """Takes a step of SGD, Adam or AdamW as PyTorch does; `factor` multiplies the learning rates."""
    state["step"] += 1
    step, (beta1, beta2), decay = int(state["step"]), manifest.betas, manifest.weight_decay
    for each in manifest.parameters:
        parameter, gradient, first = state[each.name], gradients[each.name], state[f"first:{each.name}"]
        lr = factor * getattr(manifest.learning_rates, each.group)
        if manifest.optimizer == "adamw":
            parameter *= 1 - lr * decay
        elif decay:
            gradient += decay * parameter
        if manifest.optimizer == "sgd":
            first *= manifest.momentum
            first += gradient
            parameter -= lr * first
        else:
            second = state[f"second:{each.name}"]
            first += (1 - beta1) * (gradient - first)
            second += (1 - beta2) * (gradient**2 - second)
            parameter -= lr / (1 - beta1**step) * first / (np.sqrt(second / (1 - beta2**step)) + manifest.eps)


def peak_mib() -> float:
    """Returns the most memory that this process has had, in MiB; 0 if the system is not Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), 0.0)


class Classifier:
    """The exported network with what training changes: `state`, arrays as in its files, changed in place."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads, self.manifest = folder, threads, read_manifest(folder)
        path = folder / CHECKPOINT
        self.state = read_state(path if path.exists() else folder / "state.npz", self.manifest)
        self.parameters = {each.name: self.state[each.name] for each in self.manifest.parameters}
        self.classes: list[str] = self.state["classes"].tolist()

    def session(self, graph: str) -> Graph:
        """Opens a graph with those options that were measured to need the least memory."""
        options = onnxruntime.SessionOptions()
        options.enable_mem_pattern = False  # which holds what is never used at the same time
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads, options.log_severity_level = self.threads, 4
        return Graph(str(self.folder / graph), options)

    def pictures(self, folder: Path) -> Pictures:
        """Returns the pictures of `folder`, which may have some of the network's classes alone."""
        found = find_pictures(folder, self.manifest.endings)
        if unknown := ", ".join(sorted({name for _, name in found}.difference(self.classes))):
            raise UserError(f"{folder}: {unknown} is none of the classes {', '.join(self.classes)}")
        return found

    def take_classes(self, names: list[str], is_new: bool) -> None:
        """Compares the pictures' classes with the network's; `is_new`: other ones get a new head."""
        differ = ", ".join(sorted(set(names) ^ set(self.classes)))
        if differ and not (is_new and len(names) == len(self.classes)):
            counts = f"pictures of {len(names)} classes, a network of {len(self.classes)}, differ in {differ}"
            remedy = "--new-classes begins as many others; of more or fewer, export another network"
            raise UserError(f"{counts}: rename or fill folders; {remedy}")
        if differ:
            self.classes, n = names, len(names)
            self.state |= {"classes": np.array(names), "class_weights": np.ones(n, np.float32)}
            rng, bound = np.random.default_rng(self.manifest.seed), 1 / math.sqrt(self.manifest.features)
            for each in self.manifest.parameters:
                if each.group == "classifier":
                    self.parameters[each.name][...] = rng.uniform(-bound, bound, each.shape)
            for name in self.state:
                if name.startswith(("first:", "second:")) or name in ("step", "epoch"):
                    self.state[name][...] = 0

    def inputs(self, pictures: Pictures, rng: np.random.Generator | None = None) -> Iterator[Arrays]:
        """Yields micro-batches in the same arrays; to train, `rng` draws crops, mirrors and dropout."""
        manifest, n, side = self.manifest, self.manifest.micro_batch_size, self.manifest.resolution
        images, labels = np.zeros((n, 3, side, side), np.uint8), np.zeros(n, np.int64)
        for start in range(0, len(pictures), n):
            weights = np.zeros(n, np.float32)  # 0 for rows without a picture
            for row, (path, name) in enumerate(pictures[start : start + n]):
                picture = square(path, math.ceil(side * 8 / 7))  # with room for crops: 256 for 224
                if rng is not None:
                    crops = manifest.augmentation
                    picture = random_crop(picture, crops.crop_scale_min, crops.flip, rng)
                picture = picture.resize((side, side), Image.Resampling.BILINEAR)
                images[row], labels[row] = np.asarray(picture).transpose(2, 0, 1), self.classes.index(name)
                weights[row] = self.state["class_weights"][labels[row]]
            feed = {"images": images, "labels": labels, "weights": weights}
            if rng is not None and manifest.dropout:
                drawn = np.random.default_rng((manifest.seed, int(self.state["step"]), start))
                kept = drawn.random((n, manifest.features)) >= manifest.dropout
                feed["keep"] = kept.astype(np.float32) / np.float32(1 - manifest.dropout)
            yield feed

    def logits(self, pictures: Pictures) -> np.ndarray:
        """Returns `(N, C)`. The graph is in memory only meanwhile."""
        graph, feeds = self.session("predict.onnx"), self.inputs(pictures)
        rows = [graph.run(["logits"], self.parameters | {"images": feed["images"]})[0] for feed in feeds]
        return np.concatenate(rows)[: len(pictures)]

    def accuracy(self, pictures: Pictures) -> float:
        """Returns the share of pictures whose class has the largest logit."""
        labels = [self.classes.index(name) for _, name in pictures]
        return float(np.mean(self.logits(pictures).argmax(1) == labels))

    def gradients(self, graph: Graph, feeds: Iterator[Arrays]) -> tuple[float, int, Arrays]:
        """Returns the loss, the hits and the gradients of all micro-batches, each a sum over pictures."""
        outputs = ["loss", "hits", *(f"grad:{name}" for name in self.parameters)]
        loss_sum, n_hits, sums = 0.0, 0, list[np.ndarray]()
        for feed in feeds:
            loss, hits, *found = graph.run(outputs, feed | self.parameters)
            loss_sum, n_hits = loss_sum + float(loss), n_hits + int(hits)
            for total, gradient in zip(sums, found, strict=False):
                total += gradient
            sums = sums or found
            del found  # or it would be in memory beside the gradients of the next micro-batch
        return loss_sum, n_hits, dict(zip(self.parameters, sums, strict=True))

    def train_epoch(
        self, pictures: Pictures, epochs: int, after_step: Callable[[int], None]
    ) -> dict[str, float]:
        """Trains one of `epochs`, as state and seed determine it; returns mean loss and accuracy.

        `after_step`: called with the number of pictures of the epoch so far.
        """
        epoch, size, n = int(self.state["epoch"]), self.manifest.batch_size, len(pictures)
        rng, graph = np.random.default_rng((self.manifest.seed, epoch)), self.session("step.onnx")
        order, n_steps, loss_sum, n_hits = rng.permutation(n), math.ceil(n / size), 0.0, 0
        for step in range(n_steps):
            batch = [pictures[index] for index in order[step * size : (step + 1) * size]]
            loss, hits, gradients = self.gradients(graph, self.inputs(batch, rng))
            if not math.isfinite(loss):
                where = f"step {step + 1} of epoch {epoch + 1}"
                raise UserError(f"no finite loss in {where}: export lower learning rates")
            for gradient in gradients.values():
                gradient /= len(batch)
            factor = lr_factor(self.manifest.schedule, epochs, epoch * n_steps + step, n_steps)
            update_(self.state, gradients, self.manifest, factor)
            loss_sum, n_hits = loss_sum + loss, n_hits + hits
            after_step(step * size + len(batch))
        self.state["epoch"] += 1
        return {"epoch": epoch + 1, "loss": loss_sum / n, "train_accuracy_top1": n_hits / n}


def train(network: Classifier, given: argparse.Namespace) -> None:
    """Trains on pictures; after each epoch checkpoint.npz and a line of metrics.jsonl are written."""
    checkpoint, metrics = network.folder / CHECKPOINT, network.folder / "metrics.jsonl"
    if checkpoint.exists() and not given.resume:
        raise UserError(f"{checkpoint} is there: add --resume, or remove it to start anew")
    has_splits, val = (given.folder / "train").is_dir(), given.folder / "val"
    pictures = find_pictures(given.folder / "train" if has_splits else given.folder, network.manifest.endings)
    network.take_classes(sorted({name for _, name in pictures}), given.new_classes)
    judged = network.pictures(val) if has_splits and val.is_dir() else []
    epochs, n_done = given.epochs or network.manifest.epochs, int(network.state["epoch"])
    text = metrics.read_bytes() if metrics.exists() else b""
    write_whole(metrics, lambda file: file.write(text))  # if it cannot, that is said now, not after an epoch
    lines = text.splitlines(keepends=True)[:n_done]
    print(f"{len(pictures)} to train, {len(judged)} to validate; {n_done} of {epochs} epochs are done")

    def after_step(n_done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{n_done} of {len(pictures)} pictures\x1b[K", end="\r", file=sys.stderr, flush=True)
        if given.budget_mib and peak_mib() > given.budget_mib:
            raise UserError(f"the process needs {peak_mib():.0f} MiB, over --budget-mib {given.budget_mib}")

    while network.state["epoch"] < epochs:
        began = time.perf_counter()
        line = network.train_epoch(pictures, epochs, after_step)
        line["images_per_s"] = len(pictures) / (time.perf_counter() - began)
        if judged:
            line["accuracy_top1"] = network.accuracy(judged)
        line |= {"epoch_time_s": time.perf_counter() - began, "process_peak_mib": peak_mib()}
        lines.append(f"{json.dumps(line)}\n".encode())
        write_whole(metrics, lambda file: file.write(b"".join(lines)))
        write_whole(checkpoint, lambda file: np.savez(file, **network.state))  # type: ignore[arg-type]
        print("  ".join(f"{name} {value:.4g}" for name, value in line.items()), flush=True)
        after_step(len(pictures))


def evaluate(network: Classifier, given: argparse.Namespace) -> None:
    """Prints the accuracy on pictures (a fraction) of checkpoint.npz, or of state.npz if there is none."""
    val = given.folder / "val"
    pictures = network.pictures(val if val.is_dir() else given.folder)
    print(f"accuracy {network.accuracy(pictures):.4f} of {len(pictures)} pictures")


def predict(network: Classifier, given: argparse.Namespace) -> None:
    """Prints the most probable classes of pictures, and their probabilities."""
    logits = network.logits([(path, network.classes[0]) for path in given.files])
    odds = np.exp(logits - logits.max(1, keepdims=True))
    for path, row in zip(given.files, odds / odds.sum(1, keepdims=True), strict=True):
        best = np.argsort(-row, kind="stable")[: given.top]
        print(path, *(f"{network.classes[number]} {row[number]:.3f}" for number in best), sep="\t")


def above_0(text: str) -> int:
    """Reads a whole number of a flag."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Returns what reads the command line. Without a usage text a mistake is one line."""
    plain = argparse.RawDescriptionHelpFormatter
    program = argparse.ArgumentParser(description=__doc__, formatter_class=plain, usage=argparse.SUPPRESS)
    commands = program.add_subparsers(required=True, metavar="COMMAND", prog=program.prog)
    for run in (train, evaluate, predict):
        command = commands.add_parser(run.__name__, help=run.__doc__, usage=argparse.SUPPRESS)
        command.set_defaults(run=run)
        flag, cores = command.add_argument, os.cpu_count() or 1
        flag("--threads", type=above_0, default=cores, metavar="N", help="default: one per core")
        if run is predict:
            flag("files", type=Path, nargs="+", metavar="FILE", help="a picture")
            flag("--top", type=above_0, default=1, metavar="K", help="classes per picture (default: 1)")
        else:
            flag("folder", type=Path, metavar="FOLDER", help="CLASS/*.jpg, or train/CLASS/* and val/CLASS/*")
        if run is train:
            flag("--epochs", type=above_0, metavar="N", help="in all (default: those of the export)")
            flag("--resume", action="store_true", help="continue after the last whole epoch, if there is one")
            flag("--budget-mib", type=above_0, metavar="X", help="end if the process needs more MiB than X")
            flag("--new-classes", action="store_true", help="a new last layer for classes of other names")
    return program


def main(argv: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Runs a command; returns the exit code: 0, 2 after a mistake, 130 if interrupted."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # odd names
    given = parser().parse_args(argv)
    try:
        network = Classifier(folder, given.threads)
        given.run(network, given)
    except KeyboardInterrupt:
        print("interrupted: the last whole epoch stays, train --resume continues after it", file=sys.stderr)
        return 130
    except (UserError, OSError, MemoryError) as error:
        print(str(error) or "memory is full", file=sys.stderr)
        return 2
    except RUNTIME_ERRORS as error:
        why, other = " ".join(str(error).split()), network.manifest.runtime.onnxruntime
        remedy = f"free memory if it lacks that, else python -m pip install onnxruntime=={other}"
        print(f"onnxruntime {onnxruntime.__version__} failed ({why}): {remedy}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
