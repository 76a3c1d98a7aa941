"""A warm start of lite residuals: each branch is fitted to its block's output before training."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.data.batches import train_batches
from tinytl.data.resizing import resized_at_once
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.runs.trainer import Trainer

FIT_STEPS = 200
FIT_BATCH_SIZE = 32
FIT_LR = 3e-3
FIT_SEED = 99
"""Added to a run's seed: the fit sees other crops than training."""


def lite_modules(net: nn.Module) -> list[tuple[str, LiteResidualModule]]:
    """Returns the lite residual modules of `net` with their names, first to last."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, LiteResidualModule)]


def fit_branches_(trainer: Trainer) -> dict[str, float]:
    """Fits each branch to its block's own output, on training images, by `FIT_STEPS` steps of Adam.

    The target is the main branch's output, pooled to the branch's size and brought to mean 0 and deviation 1
    per channel. The branch is compared before the weight and bias of its last norm, which stay: the network
    computes what it did before. Each branch has a loss of its own, so nothing flows from block to block.

    Returns:
        Each branch's mean squared error at the end; 1 means that it explains nothing.
    """
    net, fits = trainer.net.eval(), [_Fit(name, module) for name, module in lite_modules(trainer.net)]
    optimizer = torch.optim.Adam([p for fit in fits for p in fit.parameters], FIT_LR)
    for step, images in zip(range(FIT_STEPS), _images(trainer), strict=False):
        with torch.no_grad():
            net(trainer.normalize(images))
        optimizer.param_groups[0]["lr"] = FIT_LR * (1 - step / FIT_STEPS)
        losses = {fit.name: fit.loss() for fit in fits}
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for fit in fits:
        fit.close()
    return {name: round(loss.item(), 3) for name, loss in losses.items()}


class _Fit:
    """One branch: what it must see and what it must say, caught in the network's forward pass."""

    def __init__(self, name: str, module: LiteResidualModule) -> None:
        self.name, self.module = name, module
        layers = list(module.lite_residual.named_children())
        self.layers = [layer for layer_name, layer in layers if layer_name != "final_bn"]
        self.parameters = [p for layer in self.layers for p in layer.parameters()]
        self._hook = module.main_branch.register_forward_hook(self._catch)

    def _catch(self, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.input, self.output = inputs[0], output

    def loss(self) -> Tensor:
        """Returns the mean squared error on the batch that the network saw last."""
        said = self.input
        for layer in self.layers:
            said = layer(said)
        norm = self.module.lite_residual.get_submodule("final_bn")
        assert isinstance(norm, nn.GroupNorm)
        said = F.group_norm(said, norm.num_groups, eps=norm.eps)
        target = F.adaptive_avg_pool2d(self.output, said.shape[2:])
        deviation, mean = torch.std_mean(target, dim=(0, 2, 3), keepdim=True)
        return F.mse_loss(said, (target - mean) / (deviation + 1e-3))

    def close(self) -> None:
        self._hook.remove()
        del self.input, self.output


def _images(trainer: Trainer) -> Iterator[Tensor]:
    """Yields batches of augmented training images, epoch after epoch."""
    config, data = trainer.config, trainer.data
    epoch = 0
    while True:
        for images, _ in train_batches(
            data.train,
            batch_size=FIT_BATCH_SIZE,
            resolution=config.resolution,
            crop_scale_min=data.crop_scale_min,
            flip=data.flip,
            seed=config.order_seed + FIT_SEED,
            epoch=epoch,
            drop_single=True,
            device=trainer.device,
            share=trainer.ranks.share,
            workers=config.loader_workers,
            resized_at_once=resized_at_once(config, data.train.side),
        ):
            yield images
        epoch += 1
