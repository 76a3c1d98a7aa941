import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tinytl.data.rand_augment import picture_seeds, rand_augmented, transform_of
from tinytl.errors import ConfigError

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize("magnitude", [1, 9, 30])
def test_pictures_are_changed_as_torchvision_changes_them(magnitude: int) -> None:
    seeds = picture_seeds(len(PICTURES), 3, 1)
    found = rand_augmented(PICTURES, magnitude, seeds)
    for picture, seed, changed in zip(PICTURES, seeds, found, strict=True):
        torch.manual_seed(int(seed))
        expected = v2.RandAugment(magnitude=magnitude)(Image.fromarray(picture))
        assert np.array_equal(np.asarray(expected), changed)
    assert not np.array_equal(found, PICTURES)


def test_a_picture_depends_on_its_seed_alone_and_torch_s_random_numbers_stay() -> None:
    seeds = picture_seeds(len(PICTURES), 0, 0)
    kept, state = PICTURES.copy(), torch.get_rng_state()
    whole = rand_augmented(PICTURES, 9, seeds)
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(PICTURES, kept)
    torch.manual_seed(77)
    assert np.array_equal(rand_augmented(PICTURES[3:5], 9, seeds[3:5]), whole[3:5])


def test_every_picture_epoch_and_run_has_its_seeds() -> None:
    seeds = [picture_seeds(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({int(seed) for of_epoch in seeds for seed in of_epoch}) == 200
    assert np.array_equal(picture_seeds(50, 1, 1), seeds[3])


def test_without_torchvision_it_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^rand_augment=3 needs the package torchvision: pip install"):
        transform_of.__wrapped__(3)
