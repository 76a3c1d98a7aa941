from collections import OrderedDict

from torch import nn

from tinytl.networks.surgery import replace_modules_


def _net() -> nn.Module:
    inner = nn.Sequential(OrderedDict(act=nn.ReLU(), norm=nn.BatchNorm2d(4)))
    return nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(3), block=inner, head=nn.Linear(4, 2)))


def test_replaces_what_the_filter_names_and_returns_the_names_in_order() -> None:
    net = _net()
    head = net.get_submodule("head")
    names = replace_modules_(net, lambda _, m: isinstance(m, nn.BatchNorm2d), lambda name, m: nn.Identity())
    assert names == ["norm", "block.norm"]
    assert [type(m) for m in net.modules()] == [
        nn.Sequential,
        nn.Identity,
        nn.Sequential,
        nn.ReLU,
        nn.Identity,
        nn.Linear,
    ]
    assert net.get_submodule("head") is head


def test_filter_and_replacement_see_dotted_names() -> None:
    net = _net()
    replaced = nn.Sigmoid()
    assert replace_modules_(net, lambda name, _: name == "block.act", lambda name, m: replaced) == [
        "block.act"
    ]
    assert net.get_submodule("block.act") is replaced


def test_a_replacement_may_hold_the_replaced_module() -> None:
    net = _net()
    names = replace_modules_(net, lambda _, m: isinstance(m, nn.BatchNorm2d), lambda _, m: nn.Sequential(m))
    assert names == ["norm", "block.norm"]
    assert isinstance(net.get_submodule("block.norm.0"), nn.BatchNorm2d)


def test_nothing_to_replace() -> None:
    assert replace_modules_(_net(), lambda _, m: isinstance(m, nn.Conv2d), lambda _, m: nn.Identity()) == []
