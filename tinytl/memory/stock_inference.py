"""The memory of PyTorch's own inference, which a training step is compared with."""

import dataclasses
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.config.train_config import TrainConfig
from tinytl.device import planned_device
from tinytl.memory.fake_network import build_on_meta, to_fake_
from tinytl.memory.fake_step import tracker_for
from tinytl.memory.predict import WITHOUT_EFFECT
from tinytl.networks.stored_weights import stored_weights
from tinytl.training.step import InputNormalizer, random_batch


def stock_inference_peak_mib(config: TrainConfig) -> float:
    """Predicts the peak of PyTorch's own inference of `batch_size` images, in MiB."""
    config = dataclasses.replace(
        config,
        method="FT-Last",
        norm="frozen_bn",
        weight_standardization=False,
        frozen_weights="float32",
        micro_batch_size=None,
        engine="stock",
        plan="fast",
        budget_mib=None,
        checkpoint="none",
        stock_below_kib=0.0,
        slice_mib=None,
        cuda_graph=False,
        memory_format=None,
        update_scheme=None,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
        weight_average=0.0,
        **WITHOUT_EFFECT,
    )
    return _predict_inference(config)


@lru_cache(maxsize=256)
def _predict_inference(config: TrainConfig) -> float:
    net = build_on_meta(config).eval()
    with FakeTensorMode(), torch.no_grad():
        device = planned_device(config.device)
        to_fake_(net, device)
        images, _ = random_batch(config, device)
        normalize = InputNormalizer(config, device)
        tracker = tracker_for(config)
        tracker.add_existing("parameters", [*net.parameters(), *stored_weights(net)])
        tracker.add_existing("batch_and_buffers", [*net.buffers(), images])
        with tracker.modules, tracker:
            net(normalize(images))
    return tracker.prediction().peak_mib
