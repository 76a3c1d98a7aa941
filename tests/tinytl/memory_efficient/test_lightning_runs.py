"""A lean net in Lightning's trainer; tests/integration/test_frameworks.py runs this where that is."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models import mobilenet_v3_small

from tinytl.memory_efficient import Execution, make_memory_efficient_

lightning = pytest.importorskip("lightning")
DATA = [
    (torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(index)), index % 5) for index in range(8)
]
States = dict[str, Tensor]


def trained(lean: bool, file: Path, epochs: int, resume: Path | None = None) -> States:
    """Trains on pairs, two of them to an update, and writes a checkpoint."""

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net: nn.Module = mobilenet_v3_small(num_classes=5, dropout=0.0).eval()
            for name, parameter in self.net.named_parameters():
                parameter.requires_grad_(name.endswith("bias"))
            if lean:
                make_memory_efficient_(self.net, Execution(recompute="block"))

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], 1e-3)

    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=file.parent,
        gradient_clip_val=1.0,
        accumulate_grad_batches=2,
        **quiet,
    )
    module = Classifier()
    trainer.fit(module, DataLoader(DATA, batch_size=2), ckpt_path=resume)
    trainer.save_checkpoint(file)
    return module.state_dict()


def distance(one: States, other: States) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key].float() - other[key].float()).abs().max()) for key in one)


def test_a_run_is_that_of_stock_and_goes_on_from_a_checkpoint_of_either(tmp_path):
    stock, lean = (trained(engine, tmp_path / f"{engine}.ckpt", 4) for engine in (False, True))
    assert distance(stock, lean) < 1e-4  # a step of Adam moves a bias by 1e-3
    half = tmp_path / "half.ckpt"
    trained(True, half, 2)
    assert distance(trained(True, tmp_path / "whole.ckpt", 4, half), lean) == 0
    assert distance(trained(False, tmp_path / "other.ckpt", 4, half), stock) < 1e-4
