import dataclasses
from typing import Any

import pytest

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.memory.paper import paper_memory


def _paper_config(**changes: Any) -> Any:
    fields = {"backbone": "proxylessnas_mobile", "num_classes": 102, "kernel_size": 5, "batch_size": 8}
    return small(**fields | {"resolution": 224} | changes)


@pytest.mark.parametrize(
    ("method", "resolution", "mb"),
    sampled(
        [
            ("FT-Last", 224, 30.83),
            ("TinyTL-B", 224, 31.69),
            ("TinyTL-L", 224, 37.08),
            ("TinyTL-L+B", 224, 37.13),
            ("FT-Norm+Last", 224, 192.42),
            ("FT-Full", 224, 390.84),
            ("TinyTL-L+B", 320, 64.70),
        ],
        3,
    ),
)
def test_published_figures(method: str, resolution: int, mb: float) -> None:
    # The authors' own profiler gives these for this network.
    assert paper_memory(_paper_config(method=method, resolution=resolution)) == pytest.approx(mb, abs=0.05)


def test_fields_that_the_formula_leaves_out() -> None:
    config = _paper_config(method="TinyTL-L")
    other = dataclasses.replace(
        config, norm="group_norm", micro_batch_size=1, optimizer="sgd", gn_channel_per_group=2, seed=5
    )
    assert paper_memory(other) == paper_memory(config)


@pytest.mark.parametrize("backbone", sampled(["mobilenet_v2", "efficientnet_lite0"], 2))
def test_order_of_the_methods(backbone: str) -> None:
    methods = ("FT-Last", "TinyTL-B", "TinyTL-L", "FT-Norm+Last", "FT-Full")
    figures = [paper_memory(small(backbone=backbone, method=method, resolution=64)) for method in methods]
    assert figures == sorted(figures)
    assert len(set(figures)) == len(figures)


def test_methods_beyond_the_paper_follow_its_formula() -> None:
    full = paper_memory(_paper_config(method="FT-Full"))
    assert paper_memory(_paper_config(method="Scratch", norm="group_norm")) == full
    methods = ("FT-Last", "Last-3", "Last-5", "FT-Full")
    figures = [paper_memory(_paper_config(method=method)) for method in methods]
    assert figures == sorted(figures)
    assert len(set(figures)) == len(figures)


def test_smooth_activations_count_as_floats() -> None:
    relu = paper_memory(_paper_config(method="TinyTL-L"))
    assert paper_memory(_paper_config(method="TinyTL-L", act_func="relu6")) == relu
    assert paper_memory(_paper_config(method="TinyTL-L", act_func="tanh")) > relu


@pytest.mark.parametrize(("resolution", "ratio"), [(32, 2), (96, 4), (64, 8)])
def test_small_images(resolution: int, ratio: int) -> None:
    # Kernels and pooling follow a map of 128, and must still fit the image's own maps.
    assert paper_memory(small(method="TinyTL-L", resolution=resolution, downsample_ratio=ratio)) > 0
