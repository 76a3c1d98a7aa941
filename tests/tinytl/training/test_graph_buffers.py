import torch

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.training.graph_buffers import StaticBuffers
from tinytl.training.step import build_optimizer

CPU = torch.device("cpu")
CONFIG = small(method="TinyTL-L+B", norm="frozen_bn", micro_batch_size=2, dropout=0.3)


def test_a_micro_batch_is_copied_to_where_it_always_is() -> None:
    net = build_model(lean_plan(CONFIG)).net
    buffers = StaticBuffers.of(CONFIG, net, build_optimizer(net, CONFIG), CPU)
    addresses = [tensor.data_ptr() for tensor in buffers.tensors]
    images = torch.randint(0, 256, buffers.images.shape, dtype=torch.uint8)
    buffers.take(images, torch.tensor([2, 1]))
    torch.manual_seed(3)
    buffers.draw_masks()
    assert torch.equal(buffers.images, images) and buffers.labels.tolist() == [2, 1]
    torch.manual_seed(3)
    (mask,) = buffers.masks.values()
    assert torch.equal(mask, torch.rand(2, 1280) >= 0.3)
    assert [tensor.data_ptr() for tensor in buffers.tensors] == addresses


def test_buffers_are_one_micro_batch_and_masks_of_what_drops() -> None:
    config = lean_plan(CONFIG)
    net = build_model(config).net
    buffers = StaticBuffers.of(config, net, build_optimizer(net, config), CPU)
    assert buffers.images.shape == (2, 3, 32, 32) and buffers.labels.shape == (2,)
    assert buffers.images.is_contiguous(memory_format=torch.channels_last)
    assert [tuple(mask.shape) for mask in buffers.masks.values()] == [(2, 1280)]
    assert len(buffers.tensors) == 4 + 1 + 3
    assert StaticBuffers.of(config, net.eval(), build_optimizer(net, config), CPU).masks == {}
