"""The training images of an epoch, as a run's configuration and data set say: augmented, batch by batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import train_batches
from tinytl.data.load import DataSplits
from tinytl.data.resizing import resized_at_once
from tinytl.training.data_parallel import ALONE, Ranks


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

    Images are `(N, 3, R, R)` uint8, labels `(N,)` int64, both on `device`. As `train_batches`.
    """
    return train_batches(
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
        resized_at_once=resized_at_once(config, data.train.side),
    )
