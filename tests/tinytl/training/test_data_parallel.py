import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.cases import small
from tests.support.places import ROOT
from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.predict import predict_memory
from tinytl.training import data_parallel
from tinytl.training.data_parallel import ALONE, BUNDLE_BYTES, Ranks, joined_ranks, share_of_one
from tinytl.training.step import InputNormalizer, training_step

CPU = torch.device("cpu")
STEP = """
import sys, torch
from tests.tinytl.training.test_data_parallel import CONFIG, gradients
from tinytl.training.data_parallel import joined_ranks
torch.set_num_threads(1)
with joined_ranks(CONFIG) as ranks:
    found = {size: gradients(size, ranks) for size in (6, 5, 1)}
    found |= {-size: gradients(size, ranks, released=True) for size in (6, 5, 1)}
    torch.save(found, f"{sys.argv[1]}/{ranks.rank}.pt")
"""
CONFIG = small(method="TinyTL-B", norm="group_norm", micro_batch_size=2, batch_size=6, dropout=0.3)


def gradients(batch_size: int, ranks: Ranks, released: bool = False) -> dict[str, torch.Tensor]:
    """Gradients, in float64, of this process's part of a step with `batch_size` samples.

    `released`: one pass makes them, and the optimiser takes them as it does.
    """
    torch.manual_seed(0)
    net = build_model(CONFIG).net.double()
    images = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(batch_size) % 3
    share = ranks.share(batch_size)
    found = {}

    class Recorder(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            found.update({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})

    normalize = InputNormalizer(CONFIG, CPU)
    loss, correct = training_step(
        net,
        Recorder([p for p in net.parameters() if p.requires_grad]),
        lambda x: normalize(x).double(),  # type: ignore[arg-type]
        images[share],
        labels[share],
        micro_batch_size=3 if released else 2,
        label_smoothing=0.1,
        ranks=ranks,
        batch_size=batch_size,
        releases_gradients=released,
    )
    return found | {"loss": loss, "correct": correct, "next random": torch.rand(3)}


def _torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.slow  # three processes that import torch
def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(tmp_path: Path) -> None:
    program = tmp_path / "step.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{STEP}")
    done = _torchrun(str(program), str(tmp_path))
    assert done.returncode == 0, done.stderr
    of_each = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for size in (6, 5, 1):  # equal shares, unequal ones, and one process without a sample
        expected = gradients(size, ALONE)
        for found in of_each:
            for of_step in (found[size], found[-size]):
                assert of_step.keys() == expected.keys()
                for name, value in expected.items():
                    rtol = 1e-6 if name == "loss" else 1e-10  # summed in 32 bits, in another order
                    torch.testing.assert_close(of_step[name], value, rtol=rtol, atol=1e-12, msg=name)


@pytest.mark.slow  # as the test above, and more
@pytest.mark.parametrize("augmented", ["", "--mixup-alpha 0.4 --cutmix-alpha 1"])
def test_torchrun_trains_as_one_process(
    make_imagefolder: Callable[..., Path], tmp_path: Path, augmented: str
) -> None:
    root = make_imagefolder({"train/red": 5, "train/blue": 4, "val/red": 3, "val/blue": 2, "test/red": 1})
    flags = (
        "train --dataset imagefolder --weights none --method TinyTL-L+B --norm group_norm --epochs 2".split()
    )
    flags += "--backbone mobilenet_v2 --resolution 32 --device cpu --batch-size 4 --base-lr 1e-4".split()
    flags += [*augmented.split(), "--data-dir", str(root), "--out"]
    two, one = tmp_path / "two", tmp_path / "one"
    done = _torchrun("-m", "tinytl", *flags, str(two))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1  # one process speaks
    assert "in each of 2 processes" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "tinytl", *flags, str(one)],
        cwd=ROOT,
        timeout=240,
        check=True,
        capture_output=True,
    )
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    for name in ("train_accuracy_top1", "val_accuracy_top1", "test_accuracy_top1"):
        assert results[0][name] == results[1][name]
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (one, two)]
    assert last[0]["loss"] == pytest.approx(last[1]["loss"], rel=1e-3)
    predicted = predict_memory(dataclasses.replace(TrainConfig(**_of(results[1])), batch_size=2)).peak_mib
    assert results[1]["predicted_peak_mib"] == pytest.approx(predicted)
    assert results[1]["measured_peak_mib"] == pytest.approx(predicted, rel=0.02)


def _of(result: dict[str, dict[str, object]]) -> dict[str, object]:
    return {name: value for name, value in result["config"].items() if not name.startswith("lr_ratio.")}


@pytest.mark.parametrize(("n_samples", "sizes"), [(8, [3, 3, 2]), (2, [1, 1, 0]), (3, [1, 1, 1])])
def test_shares_are_the_batch(n_samples: int, sizes: list[int]) -> None:
    shares = [Ranks(rank, 3).share(n_samples) for rank in range(3)]
    rows = [list(range(n_samples))[share] for share in shares]
    assert [len(r) for r in rows] == sizes
    assert [i for r in rows for i in r] == list(range(n_samples))


def test_a_share_s_memory_is_that_of_a_smaller_batch() -> None:
    config = small(batch_size=8, micro_batch_size=4)
    # Several processes sum their gradients within a step, which no graph does.
    assert share_of_one(config, Ranks(1, 4)) == small(batch_size=2, micro_batch_size=2, cuda_graph=False)
    asked = dataclasses.replace(config, cuda_graph=True)
    assert share_of_one(asked, Ranks(1, 4)).cuda_graph is True  # and is refused with a reason
    assert share_of_one(config, ALONE) == config
    with pytest.raises(ConfigError, match=r"^micro_batch_size=4 does not divide the 6 samples of each of 4"):
        share_of_one(small(batch_size=24, micro_batch_size=4), Ranks(0, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 3}, "batch_size=3 does not divide by the 2 processes"),
        ({"norm": "batch_norm"}, "norm=batch_norm with 2 processes would take statistics of each process's"),
    ],
)
def test_what_processes_cannot_share(
    fields: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{message}"), joined_ranks(small(**fields)):
        pass


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as some clusters set it
    with joined_ranks(small()) as ranks:
        assert ranks == ALONE


def test_small_tensors_are_sent_together_and_each_gets_its_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def all_reduce(tensor: torch.Tensor) -> None:
        sent.append(tensor.numel())
        tensor.mul_(2)

    monkeypatch.setattr(data_parallel.dist, "all_reduce", all_reduce)
    large = BUNDLE_BYTES // 4 + 1
    tensors = [
        torch.arange(6.0).view(2, 3),
        torch.arange(8.0).view(1, 2, 2, 2).contiguous(memory_format=torch.channels_last),
        torch.ones(large),
        torch.ones(()),
        torch.ones((), dtype=torch.int64),
    ]
    expected = [2 * tensor for tensor in tensors]
    Ranks(0, 2).sum_(*tensors)
    assert sent == [14, large, 1, 1]
    assert all(map(torch.equal, tensors, expected))
