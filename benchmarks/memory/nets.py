"""A training step of networks that the engine was not written for, by stock torch and lean, in one run.

torchvision's and timm's: ReLU and ReLU6 nets, SiLU and hard-swish with squeeze-excite, layer norms. Biases
and the head train under frozen batch norm, with Adam, on 8 images of 224 px. For stock in both memory formats
and for each way to run lean: the peak by the allocator's events (parameters, gradients, moments and batch
included), and the median of process CPU seconds of a step on one thread, taking turns; both are relative to
the better of stock's two. Errors are those of the gradients of two images in float32 against stock in
float64, lean's beside stock's own, and lean's in float64. The last way stores what does not train in 8 bits:
its gradients are those of other weights, so it counts for no must; nor does a batch in two micro-batches.

    python -m benchmarks.memory.nets --json benchmarks/results/memory_nets_MACHINE_YYYYMM.json
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shared.machine import write_result
from tinytl.memory.measure import PeakMeter
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.networks.stored_weights import store_frozen_weights_

BATCH, RESOLUTION, N_CLASSES = 8, 224, 10
NETS = (
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_large",
    "torchvision/efficientnet_b0",
    "torchvision/mnasnet1_0",
    "torchvision/shufflenet_v2_x1_0",
    "torchvision/regnet_y_400mf",
    "torchvision/squeezenet1_1",
    "torchvision/resnet18",
    "torchvision/convnext_tiny",
    "timm/mobilenetv2_050",
    "timm/efficientnet_lite0",
    "timm/efficientnet_b0",
    "timm/mobilenetv3_small_100",
    "timm/mobilenetv4_conv_small",
    "timm/ghostnet_100",
    "timm/regnety_002",
    "timm/convnext_atto",
    "timm/resnet18",
)
MUST_PERCENT = {
    "torchvision/mobilenet_v3_large": 25,
    "torchvision/efficientnet_b0": 25,
    "torchvision/regnet_y_400mf": 25,
    "torchvision/convnext_tiny": 50,
    "timm/efficientnet_b0": 25,
    "timm/mobilenetv3_small_100": 25,
    "timm/regnety_002": 25,
    "timm/convnext_atto": 50,
}
"""Peak over stock's that a net has to keep; 15 of those not named."""
PREDICTED = {
    "timm/efficientnet_lite0 %": 8,
    "efficientnet_b0 %": 10,
    "mobilenet_v3_large %": 15,
    "shufflenet, regnet, ghostnet %": 15,
    "convnext %": 35,
    "time of recompute=block": 1.3,
    "time of ReLU and ReLU6 nets, recompute=none": 0.8,
    "slices of 1 MiB, peak over that of recompute=block, median": 0.8,
    "slices of 1 MiB, time over that of recompute=block, median": 1.1,
    "resnet18, 8 bits %": 15.5,
}
"""Written before the first run of each way."""
SMALL = Execution(recompute="block", slice_mib=1)
WAYS = {"none": Execution(), "block": Execution(recompute="block"), "small": SMALL}
PASSES = "passes"
"""As `none`, but the batch goes in two micro-batches: for comparison, as it is another batch in memory."""
EIGHT_BITS = "int8"
"""As `small`, and what does not train is stored in 8 bits."""
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def build(name: str) -> nn.Module:
    """Returns a net with random weights whose biases and head train, in evaluation mode."""
    family, _, short = name.partition("/")
    if family == "timm":
        import timm

        net: nn.Module = timm.create_model(short, num_classes=N_CLASSES)
    else:
        import torchvision

        net = torchvision.models.get_model(short, num_classes=N_CLASSES)
    head = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    for path, parameter in net.named_parameters():
        parameter.requires_grad_(path.endswith("bias"))
    head.requires_grad_(True)
    return net.eval()


def fitted_(net: nn.Module) -> nn.Module:
    """Fits the running statistics to random images, so that no gradient vanishes or explodes."""
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(torch.randn(8, 3, 96, 96))
    return net.eval()


def lean(net: nn.Module, way: str) -> nn.Module:
    """Returns a lean copy."""
    made = copy.deepcopy(net)
    way = "none" if way == PASSES else way
    if way == EIGHT_BITS:
        store_frozen_weights_(made, "int8")
    make_memory_efficient_(made, WAYS.get(way, SMALL))
    return made


def step_of(
    net: nn.Module, layout: torch.memory_format, passes: int = 1
) -> tuple[Callable[[], None], Sequence[Any]]:
    """Returns a training step of so many micro-batches, and what `PeakMeter` counts."""
    net = net.to(memory_format=layout)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-6)
    x = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION).contiguous(memory_format=layout)
    labels = torch.arange(BATCH) % N_CLASSES

    def step() -> None:
        for part, own in zip(x.chunk(passes), labels.chunk(passes), strict=True):
            (F.cross_entropy(net(part), own, reduction="sum") / BATCH).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # moments are there from now on
    return step, (net, optimizer, [x, labels])


def gradients(net: nn.Module, x: Tensor) -> Tensor:
    """Returns the gradients of what trains as one vector in float64."""
    F.cross_entropy(net(x), torch.arange(len(x)) % N_CLASSES).backward()
    return torch.cat([p.grad.reshape(-1).double() for p in net.parameters() if p.grad is not None])


def errors(net: nn.Module, way: str) -> dict[str, float]:
    """Returns relative errors of gradients against stock in float64."""
    x = torch.randn(2, 3, RESOLUTION, RESOLUTION)
    truth = gradients(copy.deepcopy(net).double(), x.double())
    found = {
        "stock_float32": gradients(copy.deepcopy(net), x),
        "lean_float32": gradients(lean(net, way), x),
        "lean_float64": gradients(lean(net, way).double(), x.double()),
    }
    return {key: float((one - truth).norm() / truth.norm()) for key, one in found.items()}


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Returns the row of one network."""
    torch.manual_seed(0)
    net = fitted_(build(name))
    peers = {f"stock, {layout}": step_of(copy.deepcopy(net), form) for layout, form in LAYOUTS.items()}
    ways = (*WAYS, PASSES, EIGHT_BITS)
    peers |= {way: step_of(lean(net, way), torch.channels_last, 2 if way == PASSES else 1) for way in ways}
    peaks, times = {}, {peer: list[float]() for peer in peers}
    for peer, (step, counted) in peers.items():
        with PeakMeter(*counted) as meter:
            step()
        peaks[peer] = meter.peak_mib
    for _ in range(rounds):
        for peer, (step, _) in peers.items():
            start = time.process_time()
            step()
            times[peer].append(time.process_time() - start)
    medians = {peer: statistics.median(found) for peer, found in times.items()}
    stock_mib, stock_s = (
        min(of[peer] for peer in peers if peer.startswith("stock")) for of in (peaks, medians)
    )
    least = min(WAYS, key=peaks.__getitem__)
    return {
        "net": name,
        "parameters_million": round(sum(p.numel() for p in net.parameters()) / 1e6, 2),
        "stock_mib": round(stock_mib, 1),
        **{f"{way}_mib": round(peaks[way], 1) for way in ways},
        "least_percent": round(100 * peaks[least] / stock_mib, 1),
        "must_percent": MUST_PERCENT.get(name, 15),
        **{f"{way}_time": round(medians[way] / stock_s, 2) for way in ways},
        "stock_ms": round(1000 * stock_s, 1),
        **{f"error_{key}": float(f"{value:.2g}") for key, value in errors(net, least).items()},
    }


def main() -> None:
    """Measures each network, prints and writes a row for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", help="one of them, may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.net or NETS:
        rows.append(compare(name, args.rounds))
        print(rows[-1], flush=True)
        if args.json:
            figures = {"batch": BATCH, "resolution": RESOLUTION, "rounds": args.rounds}
            write_result(args.json, figures | {"predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    main()
