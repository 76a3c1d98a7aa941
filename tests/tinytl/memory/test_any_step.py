"""Predictions of steps of networks that no configuration describes, against the allocator."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18, shufflenet_v2_x0_5, squeezenet1_1

from tests.support.sampled import sampled
from tinytl import fit_budget, make_memory_efficient_, max_batch_size, predict_step
from tinytl.device import with_threads
from tinytl.errors import ConfigError
from tinytl.memory.any_step import adam, summed
from tinytl.memory.measure import PeakMeter
from tinytl.memory_efficient import Execution

NETS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v3_small": mobilenet_v3_small,
    "resnet18": resnet18,
    "shufflenet": shufflenet_v2_x0_5,
}
IN_SLICES = NETS | {"squeezenet": squeezenet1_1}
ENGINES = ("stock", "none", "block")


def net_of(name: str, engine: str, trained: str = "bias") -> nn.Module:
    net = IN_SLICES[name](num_classes=7).eval()
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(key.endswith(trained))
    if engine != "stock":
        make_memory_efficient_(net, Execution(recompute=engine))
    return net


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with with_threads(1):
        yield


def measured_mib(
    net: nn.Module,
    x: Tensor,
    made_by: Any = adam,
    loss: Any = summed,
    passes: int = 1,
    autocast: torch.dtype | None = None,
) -> float:
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = made_by(trained)

    def step() -> None:
        for part in x.chunk(passes):
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                value = loss(net(part))
            value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    step()
    with PeakMeter(net, optimizer, [x]) as meter:
        step()
    return meter.peak_mib


@pytest.mark.parametrize(
    ("name", "engine", "trained"),
    sampled([(n, e, t) for t in ("bias", "") for n in NETS for e in ENGINES], 7),
)
def test_a_prediction_is_what_the_allocator_counts(name, engine, trained):
    net = net_of(name, engine, trained)
    x = torch.randn(3, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    predicted = predict_step(net, x).peak_mib
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert predicted == pytest.approx(measured_mib(net, x), rel=0.02)


@pytest.mark.parametrize("name", IN_SLICES)
@pytest.mark.parametrize("engine", ["none", "block"])
def test_a_batch_in_many_slices_is_predicted_too(name, engine):
    net = net_of(name, engine)
    x = torch.randn(8, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    assert predict_step(net, x).peak_mib == pytest.approx(measured_mib(net, x), rel=0.02)


def test_optimiser_loss_and_size_are_the_callers():
    net = net_of("mobilenet_v3_small", "none", "")
    x = torch.randn(2, 3, 64, 64)

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)

    def loss(logits):
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))

    found = predict_step(net, x, optimizer=sgd, loss=loss)
    assert found.peak_mib == pytest.approx(measured_mib(net, x, sgd, loss), rel=0.02)
    assert found.peak_mib < predict_step(net, x).peak_mib
    assert predict_step(net, x, batch_size=9).peak_mib > found.peak_mib


@pytest.mark.parametrize(
    "make",
    [torch.optim.Adam, partial(torch.optim.NAdam, foreach=True), torch.optim.Adagrad, torch.optim.RAdam],
)
def test_an_optimiser_may_read_how_many_steps_it_took(make):
    net = net_of("mobilenet_v3_small", "none", "")
    x = torch.randn(2, 3, 64, 64)
    assert predict_step(net, x, optimizer=make).peak_mib == pytest.approx(
        measured_mib(net, x, make), rel=0.02
    )


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("engine", ENGINES)
def test_autocast_is_predicted(name, engine):
    net = net_of(name, engine)
    x = torch.randn(4, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    found = predict_step(net, x, autocast=torch.bfloat16).peak_mib
    assert found == pytest.approx(measured_mib(net, x, autocast=torch.bfloat16), rel=0.02)


def test_what_watches_the_modules_keeps_no_gradient_of_a_slice():
    """Modules that return their input (here the activations of re-parameterised blocks) are watched, too."""
    net = timm.create_model("fastvit_t8", num_classes=7).eval()
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(key.endswith("bias"))
    make_memory_efficient_(net, Execution(slice_mib=1))
    x = torch.randn(4, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    assert predict_step(net, x).peak_mib == pytest.approx(measured_mib(net, x), rel=0.002)


def test_the_largest_batch_fits_and_one_more_does_not():
    net = net_of("shufflenet", "block")
    x = torch.randn(1, 3, 64, 64)
    budget = predict_step(net, x, batch_size=11).peak_mib
    assert max_batch_size(net, budget, x) == 11
    assert max_batch_size(net, budget + 0.001, example=x) == 11
    with pytest.raises(ConfigError, match=r"budget_mib=1 is under what a batch of 1 needs: \d"):
        max_batch_size(net, 1, x)
    with pytest.raises(TypeError, match="needs an example"):
        max_batch_size(net, 1)


def test_a_budget_is_kept_with_the_same_gradients():
    net = net_of("mobilenet_v3_small", "stock")
    x = torch.randn(8, 3, 96, 96)
    summed(net(x)).backward()
    stock = {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}
    largest = float(max(grad.abs().max() for grad in stock.values()))
    net.zero_grad(set_to_none=True)
    peaks = {}
    for share in (0.9, 0.5, 0.3):
        budget = share * predict_step(net_of("mobilenet_v3_small", "stock"), x).peak_mib
        fit = fit_budget(net, x, budget)
        peaks[share] = measured_mib(net, x, passes=-(-8 // fit.micro_batch_size))
        assert peaks[share] <= budget * 1.005 and fit.prediction.peak_mib <= budget
        for part in x.split(fit.micro_batch_size):
            summed(net(part)).backward()
        for key, parameter in net.named_parameters():
            if parameter.grad is not None:
                assert torch.allclose(parameter.grad, stock[key], rtol=1e-3, atol=1e-3 * largest), key
        net.zero_grad(set_to_none=True)
    with pytest.raises(ConfigError, match="budget_mib=2 is under the least that a step needs: "):
        fit_budget(net, x, 2)


class NotesWhatItMade(nn.Module):
    """As timm's attention biases in evaluation mode: a forward's tensor stays on the module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.cache: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        if not self.cache:
            self.cache["bias"] = [self.linear.bias * 2]
        return self.linear(x) + self.cache["bias"][0].to(x.device)


def test_a_network_that_notes_what_it_made_can_be_predicted_after_a_forward():
    x = torch.randn(4, 8)
    for with_gradient in (True, False):
        net = NotesWhatItMade()
        with torch.set_grad_enabled(with_gradient):
            net(x)
        noted = net.cache["bias"][0]
        assert predict_step(net, x).peak_mib > 0 and net.cache["bias"][0] is noted and not noted.is_meta


def test_batch_statistics_keep_the_batch_whole():
    net = net_of("shufflenet", "stock").train()
    x = torch.randn(8, 3, 64, 64)
    fit = fit_budget(net, x, predict_step(net, x).peak_mib)
    assert fit.micro_batch_size == 8


class Output(NamedTuple):
    loss: Tensor
    logits: Tensor


class KeywordNet(nn.Module):
    """Takes and returns what networks of transformers do; `scale` is no sample's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net_of("shufflenet", "stock")

    def forward(self, *, pixel_values: Tensor, labels: Tensor, scale: Tensor, name: str = "") -> Output:
        logits = self.net(pixel_values) * scale
        return Output(F.cross_entropy(logits, labels), logits)


def test_inputs_may_have_names_and_the_output_a_loss():
    net = KeywordNet()
    x = torch.randn(4, 3, 96, 96)
    batch = {"pixel_values": x, "labels": torch.arange(4), "scale": torch.tensor(2.0), "name": "any"}
    optimizer = adam([p for p in net.parameters() if p.requires_grad])

    def measured() -> float:
        for enabled in (False, True):
            with PeakMeter(net, optimizer, [x, batch["labels"], batch["scale"]], enabled=enabled) as meter:
                net(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return meter.peak_mib

    torch.set_num_threads(1)
    stock = predict_step(net, batch).peak_mib
    assert stock == pytest.approx(measured(), rel=0.02)
    fit = fit_budget(net, batch, 0.5 * stock)
    assert fit.micro_batch_size == 4 and fit.prediction.peak_mib == pytest.approx(measured(), rel=0.02)
    assert max_batch_size(net, fit.prediction.peak_mib, batch) == 4
    report = make_memory_efficient_(net, fit.execution, example=batch)
    assert sum(one.mib for one in report.kept) > 0


def test_a_loader_of_micro_batches_needs_less():
    net = net_of("mobilenet_v3_small", "stock")
    x = torch.randn(8, 3, 96, 96)
    budget = 0.3 * predict_step(net, x).peak_mib
    whole, parts = (fit_budget(net, x, budget, whole_in_memory=way) for way in (True, False))
    assert parts.micro_batch_size >= whole.micro_batch_size
    halved = predict_step(net, x, batch_size=4, beside=4).peak_mib
    assert predict_step(net, x, batch_size=4, beside=8).peak_mib == pytest.approx(
        halved + x.nbytes / 2 / 2**20, rel=0.001
    )


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * int((x > 0).sum())


def test_what_cannot_be_predicted_is_said():
    with pytest.raises(ConfigError, match="does not run on fake tensors"):
        predict_step(Counts(), torch.randn(2, 4))
    with pytest.raises(ConfigError, match="no parameter of the network needs a gradient"):
        predict_step(Counts().requires_grad_(False), torch.randn(2, 4))
