import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tests.support.cases import tinted_images
from tests.support.host_syncs import HostSyncs
from tinytl.data.splits import ImageSet
from tinytl.training.data_parallel import Ranks
from tinytl.training.evaluation import evaluate, hits_and_loss
from tinytl.training.mixed_precision import MixedPrecision

CPU = torch.device("cpu")


class Apart(Ranks):
    """One of several processes, which keeps its sums to itself."""

    def sum_(self, *tensors: Tensor) -> None:
        pass


class MeanColor(nn.Module):
    """Logits are the mean of each channel; notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.05))
        self.dropout = nn.Dropout(0.9)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(len(x))
        return self.dropout(x.mean((2, 3)) * self.scale)


def _images() -> ImageSet:
    """Seven, of which the last two have labels of another color."""
    images = tinted_images(7, seed=3)
    labels = images.labels.copy()
    labels[5:] = (labels[5:] + 1) % 3
    return ImageSet(images.images, labels)


def _evaluate(
    net: nn.Module, images: ImageSet, ranks: Ranks | None = None, **changes: object
) -> tuple[float, float]:
    options = {"resolution": 16, "batch_size": 3, "precision": MixedPrecision("float32", CPU)} | changes
    return evaluate(net, Tensor.float, images, **options, **({} if ranks is None else {"ranks": ranks}))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_each_image_counts_once_and_equally_whatever_the_batch(batch_size: int) -> None:
    images, net = _images(), MeanColor()
    accuracy, loss = _evaluate(net, images, batch_size=batch_size)
    logits = torch.from_numpy(images.images).double().mean((1, 2)) * 0.05
    assert accuracy == 5 / 7
    assert loss == pytest.approx(F.cross_entropy(logits, torch.from_numpy(images.labels)).item(), rel=1e-5)
    assert sum(net.batches) == 7
    assert max(net.batches) == min(batch_size, 7)


def test_a_network_in_training_is_judged_in_evaluation_mode_and_left_there() -> None:
    net = MeanColor().train()
    first, second = (_evaluate(net, _images()) for _ in range(2))
    assert first == second
    assert not net.training
    assert not net.dropout.training
    assert net.scale.grad is None


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_processes_share_the_images_and_their_sums_are_the_whole(world_size: int) -> None:
    images, net = _images(), MeanColor()
    whole = _evaluate(net, images)
    net.batches.clear()
    parts = [_evaluate(net, images, Apart(rank, world_size)) for rank in range(world_size)]
    assert np.sum(parts, axis=0) == pytest.approx(whole)
    assert sum(net.batches) == 7


def test_in_16_bits_the_loss_is_still_taken_in_32() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    nn.init.zeros_(net[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[2].bias)  # type: ignore[arg-type]
    types: list[torch.dtype] = []
    net.register_forward_hook(lambda module, args, logits: types.append(logits.dtype))
    _, loss = _evaluate(net, _images(), precision=MixedPrecision("bfloat16", CPU))
    assert set(types) == {torch.bfloat16}
    assert loss == pytest.approx(math.log(3), rel=1e-6)  # a number of 16 bits is off by 1e-3


def test_a_gpu_is_waited_for_once_all_images_are_sent() -> None:
    gpu, net = torch.device("cuda"), MeanColor()
    with FakeTensorMode(allow_non_fake_inputs=True), HostSyncs() as syncs:
        net.scale = nn.Parameter(torch.ones((), device=gpu))
        # Fake tensors have no result to read.
        with pytest.raises(DataDependentOutputException):
            evaluate(
                net,
                lambda batch: batch.float(),
                tinted_images(10, 0),
                resolution=16,
                batch_size=4,
                precision=MixedPrecision("float32", gpu),
            )
    assert net.batches == [4, 4, 2]
    assert syncs.found == ["aten._local_scalar_dense.default"]


def test_sums_over_batches_of_anything_that_a_network_takes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1, 1])
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    net = nn.Identity()
    correct, loss_sum = hits_and_loss(net, torch.clone, batches, MixedPrecision("float32", CPU))
    assert int(correct) == 2 and not net.training
    assert float(loss_sum) == pytest.approx(float(F.cross_entropy(logits, labels, reduction="sum")))
