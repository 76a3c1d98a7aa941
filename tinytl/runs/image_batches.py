"""The training images of an epoch, as a run's configuration and data set say: augmented, batch by batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import train_batches
from tinytl.data.load import DataSplits
from tinytl.data.resizing import resized_at_once
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.mixing import mixed_batches


def image_batches(
    config: TrainConfig,
    data: DataSplits,
    epoch: int,
    device: torch.device,
    *,
    drop_single: bool,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields this process's share of each batch of an epoch of the planned `config`, counted from 0.

    Images are `(N, 3, R, R)` uint8, labels `(N,)` int64, both on `device`; labels are `(N, C)` float32, the
    share of each class, if the configuration mixes pictures. As `train_batches`.
    """
    at_once = resized_at_once(config, data.train.side)
    is_share = ranks.world_size > 1
    batches = train_batches(
        data.train,
        batch_size=config.batch_size,
        resolution=config.resolution,
        crop_scale_min=data.crop_scale_min if config.crop_scale_min is None else config.crop_scale_min,
        flip=data.flip if config.flip is None else config.flip,
        sampling=config.sampling,
        seed=config.order_seed,
        epoch=epoch,
        drop_single=drop_single,
        device=device,
        share=ranks.share,
        workers=config.loader_workers,
        resized_at_once=at_once,
        rand_augment=config.rand_augment,
        row_before=is_share and config.mixes_pictures,
    )
    if not config.mixes_pictures:
        return batches
    return mixed_batches(batches, config, epoch, at_once=at_once, starts_before=is_share)
