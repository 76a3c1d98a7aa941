import copy

import torch
from torch import nn

from benchmarks.memory.selective_saving import save_selectively_


def small_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)
    )
    return net.eval()


def kept_and_gradients(net: nn.Module, x: torch.Tensor) -> tuple[int, list[torch.Tensor]]:
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in [*net.parameters(), *net.buffers()]}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(x)
    (out * out.detach()).sum().backward()
    return sum(kept.values()), [p.grad for p in net.parameters() if p.grad is not None]


def test_gradients_are_stocks_and_frozen_layers_keep_no_input():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    for ending in ("bias", ""):
        stock = small_net()
        for name, parameter in stock.named_parameters():
            parameter.requires_grad_(name.endswith(ending))
        selective = save_selectively_(copy.deepcopy(stock))
        (stock_bytes, wanted), (own_bytes, found) = (kept_and_gradients(net, x) for net in (stock, selective))
        assert len(wanted) == len(found)
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(one, other)
        if ending:
            assert own_bytes < stock_bytes / 2
