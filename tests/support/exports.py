"""Networks as a run leaves them, without training: a checkpoint whose random parts all affect the output."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.flat import flat_from_config
from tinytl.config.train_config import TrainConfig
from tinytl.runs.checkpoint_file import save_checkpoint


def save_run(folder: Path, config: TrainConfig | None = None, **changes: Any) -> Path:
    """Writes `best.pt` of a network after one of its epochs; returns the folder."""
    config = config or small()
    torch.manual_seed(0)
    net = build_model(config).net
    for name, parameter in net.named_parameters():
        if ".final_bn." in name or name.startswith("classifier"):  # zero, or near: they would hide the rest
            nn.init.normal_(parameter, std=0.5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics under which the picture still affects the output
            module.training, module.momentum = True, 1.0
    with torch.no_grad():
        net(torch.randn(8, 3, config.resolution, config.resolution))
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "net": net.state_dict(),
        "config": flat_from_config(config),
        "classes": ["red", "green", "blue"],
        "epoch": 1,
        "input_mean": (0.5, 0.4, 0.3),
        "input_std": (0.2, 0.25, 0.3),
    }
    save_checkpoint(state | changes, folder / "best.pt")
    return folder
