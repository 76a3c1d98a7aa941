r"""How many training images per second can be loaded: from memory, and streamed from JPEG files by workers.

Photograph-like JPEGs of 500x375 pixels (smoothed noise, quality 90) are written to a temporary folder; a pass
of `train_batches` (random crops, mirrored) is timed by the wall clock, and nothing is trained. `resize`
compares the two ways of resizing a crop of a stored picture; on a CPU by the process's CPU time. The fastest
of several passes counts: on a shared machine the others measure what else runs. What `--json` is for:

    python -m benchmarks.transfer.data_throughput \
        --json benchmarks/results/data_throughput_MACHINE_YYYYMM.json
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.shared.machine import write_result
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import train_batches
from tinytl.data.crops import random_crop
from tinytl.data.load import load_dataset
from tinytl.data.resizing import boxes_of, resize_boxes, resize_crops_
from tinytl.data.splits import Split

RESOLUTIONS = (96, 224)
PHOTO = (500, 375)
BATCH_SIZE = 32


def write_photos(folder: Path, n: int) -> None:
    """Writes `n` JPEGs in two classes, for training only."""
    rng = np.random.default_rng(0)
    for split, count in (("train", n), ("val", 2)):
        for i in range(count):
            path = folder / split / "ab"[i % 2] / f"{i:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            coarse.resize(PHOTO, Image.Resampling.BICUBIC).save(path, quality=90)


def images_per_s(
    run: Callable[[], object], n: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns `n` images divided by the seconds of the fastest of `rounds` runs, after a warm-up."""
    run()
    rates = []
    for _ in range(rounds):
        start = clock()
        run()
        rates.append(n / (clock() - start))
    return round(max(rates), 1)


def one_pass(data: Split, resolution: int, device: torch.device, workers: int | None) -> None:
    """Makes all training batches of an epoch."""
    for images, _ in train_batches(
        data, batch_size=BATCH_SIZE, resolution=resolution, crop_scale_min=0.7, flip=True,
        seed=0, epoch=0, drop_single=False, device=device, workers=workers,
    ):  # fmt: skip
        assert len(images)
    if device.type == "cuda":
        torch.cuda.synchronize()


def loading_rows(
    folder: Path, device: torch.device, workers: list[int], rounds: int
) -> list[dict[str, object]]:
    """Returns the rates of loading from memory and from files at each resolution."""
    rows: list[dict[str, object]] = []
    for resolution in RESOLUTIONS:
        config = TrainConfig(dataset="imagefolder", data_dir=str(folder), resolution=resolution)
        for loading, count in [("memory", None), *(("stream", n) for n in workers)]:
            data = load_dataset(TrainConfig(**vars(config) | {"loading": loading})).train
            rate = images_per_s(
                lambda d=data, r=resolution, c=count: one_pass(d, r, device, c), len(data), rounds
            )
            rows.append(
                {"loading": loading, "workers": count, "resolution": resolution, "images_per_s": rate}
            )
            print(*rows[-1].values(), flush=True)
    return rows


def resize_rows(device: torch.device, rounds: int) -> list[dict[str, object]]:
    """Returns the rate of torchvision's resize and of matrix products, and how far their results differ."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for resolution, side in ((96, 110), (224, 256)):
        stored = torch.from_numpy(rng.integers(0, 256, (64, side, side, 3), dtype=np.uint8)).to(device)
        crops = [random_crop(side, 0.7, True, rng) for _ in stored]

        def kernel(pictures=stored, boxes=crops, edge=resolution) -> torch.Tensor:  # type: ignore[no-untyped-def]
            out = torch.empty((len(boxes), 3, edge, edge), dtype=torch.uint8)
            resize_crops_(out, pictures.cpu(), boxes)
            return out

        def products(pictures=stored, boxes=crops, edge=resolution) -> torch.Tensor:  # type: ignore[no-untyped-def]
            on_device = boxes_of(boxes).to(device)
            out = resize_boxes(pictures, on_device, edge, BATCH_SIZE)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return out

        difference = (kernel().int() - products().cpu().int()).abs().max().item()
        rows.append(
            {
                "resolution": resolution,
                "torchvision_cpu_images_per_s": images_per_s(kernel, 64, rounds, time.process_time),
                "products_images_per_s": images_per_s(products, 64, rounds, clock),
                "largest_difference_of_255": difference,
            }
        )
        print(*rows[-1].values(), flush=True)
    return rows


def main() -> None:
    """Prints both tables and, asked to, writes them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    resize = resize_rows(device, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), args.images)
        loading = loading_rows(Path(folder), device, args.workers, args.rounds)
    if args.json:
        figures = {
            "device": args.device,
            "load_average": os.getloadavg()[0],
            "rounds": args.rounds,
            "images": args.images,
            "batch_size": BATCH_SIZE,
        }
        write_result(args.json, figures | {"resize": resize, "loading": loading})


if __name__ == "__main__":
    main()
