import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.cases import tinted_images
from tests.support.host_syncs import HostSyncs
from tinytl.data.splits import ImageSet
from tinytl.training.data_parallel import Ranks
from tinytl.training.evaluation import evaluate, judge, judgements_of
from tinytl.training.judgements import Judgements
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


def _evaluate(net: nn.Module, images: ImageSet, ranks: Ranks | None = None, **changes: object) -> Judgements:
    options = {"resolution": 16, "batch_size": 3, "precision": MixedPrecision("float32", CPU)} | changes
    return evaluate(net, Tensor.float, images, **options, **({} if ranks is None else {"ranks": ranks}))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_each_image_counts_once_and_equally_whatever_the_batch(batch_size: int) -> None:
    images, net = _images(), MeanColor()
    found = _evaluate(net, images, batch_size=batch_size)
    logits = torch.from_numpy(images.images).double().mean((1, 2)) * 0.05
    assert found.accuracy_top1 == 5 / 7
    assert_array_equal(found.predicted, logits.argmax(1))
    assert_allclose(found.confidence, logits.softmax(1).amax(1), rtol=1e-5)
    labels = torch.from_numpy(images.labels)
    assert_allclose(found.losses, F.cross_entropy(logits, labels, reduction="none"), rtol=1e-5, atol=1e-6)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert sum(net.batches) == 7
    assert max(net.batches) == min(batch_size, 7)


def test_a_network_in_training_is_judged_in_evaluation_mode_and_left_there() -> None:
    net = MeanColor().train()
    first, second = (_evaluate(net, _images()) for _ in range(2))
    assert_array_equal(first.losses, second.losses)
    assert not net.training
    assert not net.dropout.training
    assert net.scale.grad is None


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_processes_share_the_images_and_their_sums_are_the_whole(world_size: int) -> None:
    images, net = _images(), MeanColor()
    whole = _evaluate(net, images)
    net.batches.clear()
    parts = [_evaluate(net, images, Apart(rank, world_size)) for rank in range(world_size)]
    for name in ("predicted", "confidence", "losses"):
        assert_allclose(sum(getattr(part, name) for part in parts), getattr(whole, name), rtol=1e-6)
    assert all(part.labels is images.labels for part in parts)
    assert sum(net.batches) == 7


def test_in_16_bits_the_loss_is_still_taken_in_32() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    nn.init.zeros_(net[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[2].bias)  # type: ignore[arg-type]
    types: list[torch.dtype] = []
    net.register_forward_hook(lambda module, args, logits: types.append(logits.dtype))
    found = _evaluate(net, _images(), precision=MixedPrecision("bfloat16", CPU))
    assert set(types) == {torch.bfloat16}
    assert found.loss == pytest.approx(math.log(3), rel=1e-6)  # a number of 16 bits is off by 1e-3


def test_a_gpu_is_waited_for_once_all_images_are_sent() -> None:
    gpu, net = torch.device("cuda"), MeanColor()
    with FakeTensorMode(allow_non_fake_inputs=True), HostSyncs() as syncs:
        net.scale = nn.Parameter(torch.ones((), device=gpu))
        # Fake tensors have no result to read.
        with pytest.raises(RuntimeError, match="numpy"):
            evaluate(
                net,
                lambda batch: batch.float(),
                tinted_images(10, 0),
                resolution=16,
                batch_size=4,
                precision=MixedPrecision("float32", gpu),
            )
    assert net.batches == [4, 4, 2]
    assert syncs.found == ["aten._to_copy.default"]


def test_anything_that_a_network_takes_is_judged_batch_by_batch() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1, 1])
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    net = nn.Identity()
    found = judge(net, torch.clone, batches, MixedPrecision("float32", CPU))
    assert found[0].tolist() == [0, 1, 0] and not net.training
    assert_allclose(found[2], F.cross_entropy(logits, labels, reduction="none"), rtol=1e-6)
    assert judgements_of(found, labels.numpy()).accuracy_top1 == pytest.approx(2 / 3)


def test_no_image_has_no_judgement() -> None:
    found = judge(nn.Identity(), torch.clone, [], MixedPrecision("float32", CPU))
    assert judgements_of(found, np.zeros(0, np.int64)).labels.shape == (0,)
