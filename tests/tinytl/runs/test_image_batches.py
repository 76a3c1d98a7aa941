import dataclasses
from typing import Any

import pytest
import torch

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.runs.image_batches import image_batches

CPU = torch.device("cpu")


def _images(splits: DataSplits, epoch: int = 0, **changes: Any) -> torch.Tensor:
    config: TrainConfig = small(batch_size=4, plan="smallest", micro_batch_size=1, **changes)
    batches = image_batches(config, splits, epoch, CPU, drop_single=False)
    return torch.cat([images for images, _ in batches])


def test_an_epoch_is_that_of_its_seed_and_number(splits: DataSplits) -> None:
    first = _images(splits)
    assert first.shape == (len(splits.train), 3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(_images(splits), first)
    assert torch.equal(_images(splits, seed=5, data_seed=0), first)
    assert not torch.equal(_images(splits, epoch=1), first)
    assert not torch.equal(_images(splits, seed=5), first)


@pytest.mark.parametrize(("field", "own"), [("crop_scale_min", 0.3), ("flip", False)])
def test_what_the_configuration_leaves_open_is_the_data_set_s(
    splits: DataSplits, field: str, own: Any
) -> None:
    set_by_data = dataclasses.replace(splits, **{field: own})
    assert torch.equal(_images(set_by_data), _images(splits, **{field: own}))
    assert not torch.equal(_images(set_by_data), _images(splits))
