import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.host_syncs import HostSyncs
from tinytl.networks.dropout import RowwiseDropout, dropouts_of, masks_from, skip_rows


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_mask_does_not_depend_on_the_micro_batch(rows: int) -> None:
    dropout, x = RowwiseDropout(0.3, 37), torch.ones(8, 37)
    torch.manual_seed(5)
    whole = dropout(x)
    torch.manual_seed(5)
    pieces = torch.cat([dropout(part) for part in x.split(rows)])
    assert torch.equal(whole, pieces)
    torch.manual_seed(6)
    assert not torch.equal(whole, dropout(x))


def test_kept_features_are_scaled() -> None:
    torch.manual_seed(0)
    out = RowwiseDropout(0.25, 100)(torch.full((100, 100), 3.0))
    assert set(out.unique().tolist()) == {0.0, 4.0}
    # 10,000 features: three standard deviations of the share dropped are 0.013.
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.013)
    assert out.mean().item() == pytest.approx(3.0, abs=0.052)


def test_the_gradient_passes_where_the_feature_was_kept() -> None:
    torch.manual_seed(0)
    x = torch.ones(4, 16, requires_grad=True)
    out = RowwiseDropout(0.5, 16)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_identity(p: float, training: bool) -> None:
    x = torch.randn(3, 4)
    assert RowwiseDropout(p, 4).train(training)(x) is x


def test_rows_of_another_process_are_skipped() -> None:
    net = nn.Sequential(nn.Identity(), RowwiseDropout(0.3, 5))
    torch.manual_seed(1)
    whole = net(torch.ones(8, 5))
    torch.manual_seed(1)
    skip_rows(net, 3)
    assert torch.equal(net(torch.ones(4, 5)), whole[3:7])
    skip_rows(net, 1)
    after = torch.rand(1)
    torch.manual_seed(1)
    torch.rand(8, 5)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_drawn_where_nothing_is_dropped(p: float, training: bool) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    skip_rows(RowwiseDropout(p, 4).train(training), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_can_be_drawn_beforehand() -> None:
    net = nn.Sequential(RowwiseDropout(0.3, 5), RowwiseDropout(0.0, 5))
    x = torch.ones(4, 5)
    torch.manual_seed(1)
    expected = net(x)
    torch.manual_seed(1)
    masks = {module: module.draw(4) for module in dropouts_of(net)}
    state = torch.get_rng_state()
    with masks_from(masks):
        assert torch.equal(net(x), expected)
        masks[dropouts_of(net)[0]].fill_(False)
        assert not net(x).any()
    assert torch.equal(torch.get_rng_state(), state)
    assert net(x).any() and list(masks) == [net[0]]
    assert dropouts_of(net.eval()) == []


def test_a_mask_travels_to_a_gpu_without_a_wait() -> None:
    with FakeTensorMode(), HostSyncs() as syncs:
        RowwiseDropout(0.5, 16)(torch.ones(4, 16, device="cuda"))
    assert syncs.found == []
