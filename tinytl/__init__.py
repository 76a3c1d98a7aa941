"""Memory-efficient transfer learning: TinyTL and its peers, with the memory that training really needs.

The public names are here (`from tinytl import TrainConfig, build_model`); everything else may move.
Importing this package imports nothing heavy: each name imports its module on first use, and
``tinytl.config`` and ``tinytl.data`` work without torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from tinytl import moved

if TYPE_CHECKING:
    from tinytl.build import build_model
    from tinytl.config.train_config import TrainConfig
    from tinytl.gradient_checkpoints.function import CheckpointFunction
    from tinytl.gradient_checkpoints.segment import checkpoint_segment
    from tinytl.memory.any_step import fit_budget, predict_step
    from tinytl.memory.curve import memory_curve
    from tinytl.memory.largest_batch import max_batch_size
    from tinytl.memory.predict import predict_memory
    from tinytl.memory_efficient import make_memory_efficient_
    from tinytl.networks.group_norm import replace_bn_with_gn
    from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual

__all__ = [
    "CheckpointFunction",
    "LiteResidualModule",
    "TrainConfig",
    "build_model",
    "checkpoint_segment",
    "fit_budget",
    "insert_lite_residual",
    "make_memory_efficient_",
    "max_batch_size",
    "memory_curve",
    "predict_memory",
    "predict_step",
    "replace_bn_with_gn",
]
_MODULES = {
    "CheckpointFunction": "tinytl.gradient_checkpoints.function",
    "LiteResidualModule": "tinytl.networks.lite_residual",
    "TrainConfig": "tinytl.config.train_config",
    "build_model": "tinytl.build",
    "checkpoint_segment": "tinytl.gradient_checkpoints.segment",
    "insert_lite_residual": "tinytl.networks.lite_residual",
    "make_memory_efficient_": "tinytl.memory_efficient",
    "fit_budget": "tinytl.memory.any_step",
    "max_batch_size": "tinytl.memory.largest_batch",
    "predict_step": "tinytl.memory.any_step",
    "memory_curve": "tinytl.memory.curve",
    "predict_memory": "tinytl.memory.predict",
    "replace_bn_with_gn": "tinytl.networks.group_norm",
}

# Torch's profiler, which measures memory, prints its start and missing devices. This is read at torch's
# import, hence it is set here.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# OpenMP's threads wait for each other by spinning, for milliseconds: beside another program that has a core,
# a step of two threads took 34 times as long. They sleep sooner so.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
moved.find_old_modules()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
