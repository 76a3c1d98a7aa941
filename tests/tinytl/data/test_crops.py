import numpy as np
import pytest

from tinytl.data.crops import random_crop


@pytest.mark.parametrize("side", [1, 8, 256])
def test_boxes_lie_inside_and_keep_their_share(side: int) -> None:
    rng = np.random.default_rng(0)
    crops = [random_crop(side, 0.3, True, rng) for _ in range(200)]
    assert all(0 <= c.top <= side - c.height and 0 <= c.left <= side - c.width for c in crops)
    areas = [c.height * c.width / side**2 for c in crops]
    if side == 256:
        assert 0.28 < min(areas) < 0.4 and 0.9 < max(areas) <= 1
    assert 60 < sum(c.mirrored for c in crops) < 140


def test_without_mirroring_nothing_is_mirrored() -> None:
    rng = np.random.default_rng(0)
    assert not any(random_crop(64, 0.5, False, rng).mirrored for _ in range(50))


def test_a_picture_has_the_same_box_at_any_size() -> None:
    large, small = (np.random.default_rng(0), np.random.default_rng(0))
    for _ in range(50):
        crop, of_small = random_crop(1000, 0.3, True, large), random_crop(100, 0.3, True, small)
        assert crop.mirrored is of_small.mirrored
        for name in ("top", "left", "height", "width"):
            assert abs(getattr(crop, name) - 10 * getattr(of_small, name)) <= 16
