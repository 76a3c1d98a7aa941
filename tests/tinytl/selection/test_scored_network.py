import dataclasses

import numpy as np
import torch

from tests.support.cases import small
from tests.support.colours import classes_of_one_colour
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.splits import ImageSet
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.networks.update_scheme import last_scheme
from tinytl.selection.scored_network import fitted_network, of_scores, some_images

CPU = torch.device("cpu")


def sparse(**changes: object) -> TrainConfig:
    config = small(method="Sparse", norm="group_norm", **changes)
    return of_scores(config, last_scheme(config))


def test_images_are_of_each_class_in_turn_and_the_same_for_a_seed() -> None:
    split = ImageSet(np.zeros((12, 8, 8, 3), np.uint8), np.array([0] * 9 + [1, 1, 2]))
    split.images[:, 0, 0, 0] = np.arange(12)
    found = some_images(split, 5, seed=1)
    assert found.labels.tolist() == [0, 1, 2, 0, 1]
    assert isinstance(found, ImageSet)
    again, other = some_images(split, 5, seed=1), some_images(split, 5, seed=2)
    assert isinstance(again, ImageSet) and isinstance(other, ImageSet)
    assert np.array_equal(found.images, again.images) and not np.array_equal(found.images, other.images)
    assert len(some_images(split, 100, seed=0)) == 12


def test_batch_norm_keeps_its_statistics_meanwhile() -> None:
    config = small(method="Sparse", norm="batch_norm", plan="budget", budget_mib=20.0)
    found = of_scores(config, last_scheme(config))
    assert (found.norm, found.micro_batch_size, found.plan, found.dropout) == ("frozen_bn", 1, "fast", 0.0)
    assert found.update_scheme is not None and "bias:12" in found.update_scheme


def test_the_head_knows_the_classes_and_the_rest_is_as_it_was() -> None:
    config, images = sparse(), classes_of_one_colour(48)
    net, normalize, _ = fitted_network(config, RANDOM_WEIGHTS, images, CPU)
    assert not net.training
    batches = eval_batches(images, batch_size=16, resolution=32, device=CPU, workers=0)
    with torch.no_grad():
        hits = sum(int((net(normalize(batch)).argmax(1) == labels).sum()) for batch, labels in batches)
    assert hits == 48
    again, _, _ = fitted_network(config, RANDOM_WEIGHTS, images, CPU)
    assert all(
        torch.equal(one, other) for one, other in zip(net.parameters(), again.parameters(), strict=True)
    )
    seeded = dataclasses.replace(config, seed=1)
    other, _, _ = fitted_network(seeded, RANDOM_WEIGHTS, images, CPU)
    assert not torch.equal(next(net.parameters()), next(other.parameters()))  # random weights, by the seed


def test_the_input_is_what_the_weights_expect() -> None:
    config = sparse(input_mean=(0.1, 0.2, 0.3), input_std=(0.5, 0.5, 0.5))
    _, normalize, known = fitted_network(config, RANDOM_WEIGHTS, classes_of_one_colour(6), CPU)
    assert known.mean == (0.1, 0.2, 0.3)
    assert torch.allclose(normalize.mean.flatten(), 255 * torch.tensor([0.1, 0.2, 0.3]))
