from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.names import CLASS_WEIGHTINGS
from tinytl.training.class_weights import EFFECTIVE_BETA, class_weights, unit_weights
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import build_optimizer, training_step

CPU = torch.device("cpu")
LABELS = np.repeat([0, 2], [30, 10])
"""Of three classes; the second has no image."""


def test_no_weights_unless_asked() -> None:
    assert class_weights(LABELS, small(), CPU) is None
    assert unit_weights(small(), CPU) is None


@pytest.mark.parametrize("kind", CLASS_WEIGHTINGS[1:])
def test_the_mean_over_images_is_one(kind: str) -> None:
    weights = class_weights(LABELS, small(class_weighting=kind), CPU)
    assert weights is not None and weights.dtype == torch.float32
    assert weights[torch.from_numpy(LABELS)].mean().item() == pytest.approx(1.0)
    assert weights[1] == 1.0


def test_inverse_and_effective_are_the_papers_ratios() -> None:
    inverse, effective = (
        class_weights(LABELS, small(class_weighting=kind), CPU) for kind in ("inverse", "effective")
    )
    assert inverse is not None and effective is not None
    assert (inverse[2] / inverse[0]).item() == pytest.approx(3.0)
    expected = (1 - EFFECTIVE_BETA**30) / (1 - EFFECTIVE_BETA**10)
    assert (effective[2] / effective[0]).item() == pytest.approx(expected)
    assert 1.0 < expected < 3.0


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_a_step_has_the_gradient_of_the_weighted_loss(micro_batch_size: int) -> None:
    config = small(method="FT-Last", norm="frozen_bn", class_weighting="inverse", dropout=0.0)
    net = build_model(config).net
    optimizer = build_optimizer(net, config)
    weights = class_weights(LABELS, config, CPU)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 0, 0, 2])
    net.train()
    losses = F.cross_entropy(net(images), labels, label_smoothing=0.1, reduction="none") * weights[labels]
    (losses.sum() / 4).backward()
    head = net.get_submodule("classifier.1")
    expected, head.weight.grad, head.bias.grad = head.weight.grad, None, None  # type: ignore[union-attr]
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(head.weight.grad.clone()))  # type: ignore[union-attr]
    loss, _ = training_step(
        net,
        optimizer,
        torch.clone,
        images,
        labels,
        micro_batch_size=micro_batch_size,
        label_smoothing=0.1,
        class_weights=weights,
        precision=MixedPrecision("float32", CPU),
    )
    assert loss.item() == pytest.approx(losses.sum().item(), rel=1e-5)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-6)


def _loss_hits_gradient(
    labels: torch.Tensor, label_smoothing: float, micro: int = 3
) -> tuple[float, int, Any]:
    """Of a linear layer and the same three samples, with the weights of `LABELS`."""
    torch.manual_seed(0)
    net, samples = nn.Linear(4, 3).train(), torch.randn(3, 4)
    before = net.weight.detach().clone()
    loss, hits = training_step(
        net,
        torch.optim.SGD(net.parameters(), 1.0),
        torch.clone,
        samples,
        labels,
        micro_batch_size=micro,
        label_smoothing=label_smoothing,
        class_weights=class_weights(LABELS, small(class_weighting="inverse"), CPU),
    )
    return loss.item(), int(hits), before - net.weight.detach()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("micro", [1, 3])
def test_a_picture_of_two_classes_has_the_loss_of_each_for_its_share(
    label_smoothing: float, micro: int
) -> None:
    first, second = torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2])
    shares = 0.7 * F.one_hot(first, 3) + 0.3 * F.one_hot(second, 3)
    loss, hits, gradient = _loss_hits_gradient(shares, label_smoothing, micro)
    of_first, of_second = (_loss_hits_gradient(labels, label_smoothing) for labels in (first, second))
    assert loss == pytest.approx(0.7 * of_first[0] + 0.3 * of_second[0], rel=1e-5)
    assert hits == of_first[1]
    torch.testing.assert_close(gradient, 0.7 * of_first[2] + 0.3 * of_second[2])


def test_balanced_sampling_leaves_nothing_to_weight() -> None:
    weights = class_weights(LABELS, small(class_weighting="inverse", sampling="balanced"), CPU)
    assert weights is not None and weights.tolist() == [1.0, 1.0, 1.0]
