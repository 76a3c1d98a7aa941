import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.memory.fake_network import CPU, build_on_meta, to_fake_


def test_a_fake_network_is_the_real_one_without_its_numbers() -> None:
    config = small(method="TinyTL-L+B", norm="group_norm")
    real, net = build_model(config).net, build_on_meta(config)
    with FakeTensorMode():
        fake = to_fake_(net, CPU)
    for kind in ("named_parameters", "named_buffers"):
        theirs = dict(getattr(real, kind)())
        mine = dict(getattr(fake, kind)())
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert isinstance(tensor, FakeTensor) and tensor.device.type == "cpu"
            assert (tensor.shape, tensor.stride()) == (theirs[name].shape, theirs[name].stride())
            assert (tensor.dtype, tensor.requires_grad) == (theirs[name].dtype, theirs[name].requires_grad)


def test_a_tensor_that_two_modules_share_stays_one() -> None:
    with torch.device("meta"):
        net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        net[1].weight = net[0].weight
    with FakeTensorMode():
        to_fake_(net, CPU)
    assert net[1].weight is net[0].weight
