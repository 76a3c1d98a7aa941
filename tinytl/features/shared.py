"""The features of a run's images: read if a run before this one left them, and left for others if not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.features.key import file_name, images_digest, what_decides
from tinytl.features.rows import StoredRows, most_bytes_of
from tinytl.features.store import FeatureStore, store_of_this_machine
from tinytl.networks.backbones.weights import InputNormalization


@dataclass(frozen=True, kw_only=True)
class SharedFeatures:
    """What goes into the classifier `head` for a run's images: training ones of each epoch, validation ones.

    Each method gives the stored rows. If there are none it gives None, and stores what goes into `head`
    inside its block.
    """

    store: FeatureStore
    head: nn.Module
    train_shape: tuple[int, int]
    val_shape: tuple[int, int]
    train_name: Callable[[int], str]
    """The file of an epoch, counted from 0."""
    val_name: str

    @property
    def n_epochs(self) -> int:
        """So many first epochs are stored: more would push one another out before they are read."""
        left = self.store.most_bytes - most_bytes_of(self.val_shape)
        return max(0, left // most_bytes_of(self.train_shape))

    @contextmanager
    def of_epoch(self, epoch: int) -> Iterator[StoredRows | None]:
        """The training images of an epoch, counted from 0, in its order, cropped and mixed as it says."""
        if epoch >= self.n_epochs:
            yield None
            return
        with self._read_or_written(self.train_name(epoch), self.train_shape) as rows:
            yield rows

    @contextmanager
    def of_validation(self) -> Iterator[StoredRows | None]:
        """The validation images: the same in every epoch."""
        with self._read_or_written(self.val_name, self.val_shape) as rows:
            yield rows

    @contextmanager
    def _read_or_written(self, name: str, shape: tuple[int, int]) -> Iterator[StoredRows | None]:
        with self.store.reading(name, shape) as stored:
            if stored is not None:
                yield stored
                return
        with self.store.writing(name, shape) as rows:
            if rows is None:
                yield None
                return
            with _input_seen(self.head, rows.add):
                yield None


def shared_features(
    config: TrainConfig,
    net: nn.Module,
    data: DataSplits,
    normalization: InputNormalization,
    device: torch.device,
) -> SharedFeatures | None:
    """Returns the features that a run of the planned `config` shares; None if it cannot share any.

    All before the classifier must be frozen, and the features of an image must not depend on its batch.

    Raises:
        ConfigError: for a bad value of TINYTL_FEATURES_MIB.
    """
    store = store_of_this_machine()
    if store is None or config.norm == "batch_norm" or not _trains_head_alone(net):
        return None
    train, val = images_digest(data.train), images_digest(data.val)
    if train is None or val is None:
        return None
    about = what_decides(config, net, normalization, device)
    crops = [
        config.order_seed,
        config.sampling,
        data.crop_scale_min if config.crop_scale_min is None else config.crop_scale_min,
        data.flip if config.flip is None else config.flip,
        config.rand_augment,
        config.mixup_alpha,
        config.cutmix_alpha,
    ]
    head = net.get_submodule("classifier")
    linear = head.get_submodule("1")
    assert isinstance(linear, nn.Linear)
    return SharedFeatures(
        store=store,
        head=head,
        train_shape=(len(data.train), linear.in_features),
        val_shape=(len(data.val), linear.in_features),
        train_name=lambda epoch: file_name(
            f"train{epoch + 1:04}", about | {"images": train, "crops": crops, "epoch": epoch}
        ),
        val_name=file_name("val", about | {"images": val}),
    )


def _trains_head_alone(net: nn.Module) -> bool:
    return not any(
        parameter.requires_grad
        for name, parameter in net.named_parameters()
        if not name.startswith("classifier.")
    )


@contextmanager
def _input_seen(module: nn.Module, see: Callable[[Tensor], None]) -> Iterator[None]:
    handle = module.register_forward_pre_hook(lambda _, given: see(given[0]))
    try:
        yield
    finally:
        handle.remove()
