import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import learnt
from tests.support.file_server import serve, whole
from tests.support.places import ROOT
from tests.support.published_sets import cub200
from tests.tinytl.conftest import write_imagefolder
from tinytl.__main__ import main
from tinytl.config.plan import lean_plan

PICTURES = {"train/red": 5, "train/blue": 4, "val/red": 1, "val/blue": 1, "test/red": 1, "test/blue": 1}
FLAGS = (
    "train --dataset imagefolder --weights none --backbone mobilenet_v2 --resolution 32 --device cpu "
    "--method TinyTL-L+B --norm group_norm --batch-size 2 --base-lr 1e-3 "
    "--micro-batch-size 2 --checkpoint none --stock-below-kib 0"  # nothing has to be looked for
).split()
SMALL = "--backbone mobilenet_v2 --resolution 32 --device cpu".split()
FEW = {"train/red": 3, "train/blue": 3, "val/red": 1, "val/blue": 1}


def _quick(root: Path | str, out: Path | str, *more: str) -> list[str]:
    common = "train --dataset imagefolder --weights none --method FT-Last --epochs 1 --batch-size 2".split()
    return [*common, *SMALL, "--data-dir", str(root), "--out", str(out), *more]


def _rows(folder: Path) -> list[dict[str, object]]:
    return [learnt(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _result(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    assert result.pop("process_peak_mib") > 0  # of this process, whichever ran it
    return result


def _weights(folder: Path) -> bytes:
    import torch

    state = torch.load(folder / "last.pt", weights_only=True)["net"]
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tinytl", *arguments],
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where tests run behind a shell
    )


def _wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, "ended before it could be cut off"
        time.sleep(0.05)
    raise AssertionError(f"{path} has no {count} lines")


@pytest.mark.slow  # runs/test_trainer.py resumes in one process, integration/test_study.py after a kill
@pytest.mark.parametrize(
    "kind", [pytest.param(signal.SIGKILL, id="kill -9"), pytest.param(signal.SIGINT, id="Ctrl-C")]
)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: signal.Signals,
) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "12"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*FLAGS, *data, "--out", str(whole)]) == 0
    process = _start([*FLAGS, *data, "--out", str(cut)])
    try:
        _wait_for_lines(cut / "metrics.jsonl", 2, process)
        process.send_signal(kind)
        code = process.wait(60)
    finally:
        process.kill()
    assert code == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    assert not (cut / "result.json").exists()
    capsys.readouterr()
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    assert "resuming after epoch" in capsys.readouterr().out
    assert _rows(cut) == _rows(whole)
    assert _weights(cut) == _weights(whole)
    assert _result(cut) == _result(whole)


def test_resume_before_the_first_epoch_s_end_and_after_the_last(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--method", "FT-Last"]
    out = tmp_path / "out"
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    result = _result(out)
    (out / "result.json").unlink()  # killed while the test images were judged
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert _result(out) == result
    for name in ("result.json", "last.pt", "best.pt"):  # killed in its first epoch
        (out / name).unlink()
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert _result(out) == result
    assert len(_rows(out)) == 1


def test_a_run_goes_on_without_the_weights_that_it_began_with(
    make_imagefolder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tinytl.networks.backbones import BACKBONES

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(BACKBONES["mobilenet_v2"].build(10).state_dict(), "mine.pt")
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--weights", "mine.pt"]
    assert main([*FLAGS, *data, "--out", "out"]) == 0
    result = _result(Path("out"))
    assert result["config"]["weights"] == str(tmp_path / "mine.pt")
    Path("out/result.json").unlink()
    Path("mine.pt").unlink()
    Path("out/metrics.jsonl").write_text("damaged")  # the checkpoint has the rows
    assert main(["train", "--out", "out", "--resume"]) == 0
    assert _result(Path("out")) == result
    assert len(_rows(Path("out"))) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_resume_on_a_damaged_checkpoint_trains_anew_and_says_so(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "2", "--method", "FT-Last"]
    out = tmp_path / "out"
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    result, rows, weights = _result(out), _rows(out), _weights(out)
    (out / "result.json").unlink()
    checkpoint = out / "last.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume"]) == 0
    said = capsys.readouterr().out
    assert f"{checkpoint} is damaged" in said and "training begins anew" in said
    assert _result(out) == result
    assert (_rows(out), _weights(out)) == (rows, weights)


@pytest.mark.slow  # two runs, and the smallest of their plans
def test_how_a_process_runs_its_share_may_change(
    make_imagefolder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--batch-size", "4"]
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    (out / "result.json").unlink()
    # As on a machine, or with as many processes, for which the plan would choose otherwise.
    monkeypatch.setattr(
        "tinytl.runs.planned_config.resolve_plan",
        lambda c: dataclasses.replace(lean_plan(c), micro_batch_size=1),
    )
    monkeypatch.setattr("tinytl.runs.planned_config.is_planned", lambda c: False)
    assert main(["train", "--out", str(out), "--resume"]) == 0


def test_a_run_is_repeated_from_its_configuration(
    make_imagefolder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, one, two = make_imagefolder(PICTURES), tmp_path / "one", tmp_path / "two"
    monkeypatch.chdir(root.parent)
    Path("drop.txt").write_text("train/red/01.png\n")
    data = ["--data-dir", root.name, "--exclude", "drop.txt", "--epochs", "2", "--lr-ratio", "bias=0.5"]
    assert main([*FLAGS, *data, "--out", str(one)]) == 0
    monkeypatch.chdir(tmp_path.parent)
    assert main(["train", "--config", str(one / "config.yaml"), "--out", str(two)]) == 0
    assert _rows(one) == _rows(two)
    assert (one / "config.yaml").read_text() == (two / "config.yaml").read_text()

    three = tmp_path / "three"
    changed = ["--config", str(one / "config.yaml"), "--epochs", "1", "--lr-ratio", "bias=0.25"]
    assert main(["train", *changed, "--out", str(three)]) == 0
    config = json.loads((three / "result.json").read_text())["config"]
    assert (config["epochs"], config["lr_ratio.bias"], config["base_lr"]) == (1, 0.25, 1e-3)


def test_a_run_does_not_resume_without_other_pictures(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out, dropped = make_imagefolder(PICTURES), tmp_path / "out", tmp_path / "drop.txt"
    dropped.write_text("train/red/01.png\n")
    argv = [*FLAGS, "--data-dir", str(root), "--epochs", "1", "--exclude", str(dropped), "--out", str(out)]
    assert main(argv) == 0
    assert "; excluded: 1 by drop.txt; this leaves " in capsys.readouterr().out
    (out / "result.json").unlink()
    for listed, message in (
        ("train/red/02.png\n", f"{out}/last.pt was trained on other images: as many, but their digest is"),
        ("train/red/01.png\ntrain/red/02.png\n", f"{out}/last.pt was trained on other images: "),
    ):
        dropped.write_text(listed)
        assert main(["train", "--resume", "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    dropped.write_text("train/red/01.png\n")
    assert main(["train", "--resume", "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a result, which nothing may change."""
    folder = tmp_path_factory.mktemp("unfinished")
    pictures, out = write_imagefolder(folder / "pictures", PICTURES), folder / "out"
    data = ["--data-dir", str(pictures), "--epochs", "2", "--method", "FT-Last"]
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    (out / "result.json").unlink()
    return out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--resume --epochs 9", "is of another configuration: epochs is 2 there and 9 here; resume with"),
        ("--resume --config x.yaml", "--resume uses the configuration in --out: leave out --config"),
        ("", "holds an unfinished run: add --resume to continue it, or choose another folder"),
        ("--config /nowhere.yaml", "holds an unfinished run"),
    ],
)
def test_mistakes_with_an_unfinished_run(
    unfinished: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    before = {path: path.read_bytes() for path in unfinished.iterdir()}
    capsys.readouterr()
    assert main(["train", "--out", str(unfinished), *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in unfinished.iterdir()} == before


def test_a_missing_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "/nowhere.yaml", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "tinytl train: /nowhere.yaml: no such file\n"


def test_tensorboard_files_lie_in_the_run(make_imagefolder: Callable[..., Path], tmp_path: Path) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--method", "FT-Last"]
    assert main([*FLAGS, *data, "--out", str(tmp_path / "out"), "--tensorboard"]) == 0
    assert len(list((tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_train_on_a_published_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], loading: str) -> None:
    cub200(tmp_path / "birds")
    out = tmp_path / "out"
    how = ["--dataset", "CUB-200-2011", "--loading", loading, "--loader-workers", "1", "--batch-size", "50"]
    assert main(_quick(tmp_path / "birds", out, *how, "--download")) == 0  # there: nothing to fetch
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0] == f"extracting {tmp_path / 'birds' / 'CUB_200_2011.tgz'}"
    assert lines[1] == "cub200: 200 classes, train 200, val 200, test 200"
    result = json.loads((out / "result.json").read_text())
    assert result["config"]["dataset"] == "cub200" and result["config"]["num_classes"] == 200
    assert result["test_accuracy_top1"] * 200 == pytest.approx(round(result["test_accuracy_top1"] * 200))


def test_train(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_imagefolder(FEW), tmp_path / "out"
    assert main(_quick(root, out, "--lr-ratio", "classifier=0.5")) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[-1].endswith(f"no test images; results in {out / 'result.json'}")
    result = json.loads((out / "result.json").read_text())
    assert result["config"]["lr_ratio.classifier"] == 0.5
    assert result["test_accuracy_top1"] is None
    before = (out / "metrics.jsonl").read_text()

    assert main(_quick(root, out)) == 2
    assert capsys.readouterr().err == (
        f"tinytl train: --out {out} holds a finished run: choose another folder\n"
    )
    assert (out / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--backbone mobilenet", "unknown backbone 'mobilenet': did you mean 'mobilenet_v2'?"),
        ("--method FT-Ful", "unknown method 'FT-Ful': did you mean 'FT-Full'?"),
        ("--dataset digit", "unknown dataset 'digit': did you mean 'digits'?"),
        ("--batch-size two", "batch_size='two' is not a whole number"),
        ("--epochs 0", "epochs=0 is below 1"),
        ("--norm batch_norm --batch-size 4 --micro-batch-size 2", "micro_batch_size=2 with norm=batch_norm"),
        ("--lr-ratio late", "--lr-ratio late: write KEY=VALUE"),
        ("--lr-ratio late=0.5", "lr_ratio.late=0.5 has no effect: FT-Last trains classifier"),
        ("--lr-ratio lat=0.5", "unknown parameter 'lr_ratio.lat': did you mean 'lr_ratio.late'?"),
        ("--data-dir /nowhere", "--data-dir /nowhere: no such folder"),
        ("--dataset digits", "is not used by dataset digits: add --dataset imagefolder"),
        ("--dataset cifar10", "holds no CIFAR-10 (cifar-10-python.tar.gz or its folder"),
        (
            "--dataset cars --download",
            "--download: Stanford Cars cannot be fetched: its authors' page is gone",
        ),
        ("--download", "--download: there is nothing to fetch for dataset imagefolder: leave it out"),
        ("--loading disk", "unknown loading 'disk': known: auto, memory, stream"),
        ("--loader-workers -1", "loader_workers=-1 is below 0"),
        ("--weights /nowhere.pt", "--weights /nowhere.pt: no such file"),
        ("--backbone proxylessnas_mobile --weights imagenet", "no ImageNet weights of proxylessnas_mobile"),
        ("--method Scratch", "method=Scratch with norm=frozen_bn"),
        ("--method Scratch --norm group_norm --weights mine.pt", "weights=mine.pt with method=Scratch"),
        (
            "--method bias --lr-ratio late=0.5",
            "lr_ratio.late=0.5 has no effect: TinyTL-B trains classifier, ",
        ),
        ("--method bias --weights /nowhere.pt", "--weights /nowhere.pt: no such file"),
        ("--method TinyTL-L --n-groups 5", "n_groups=5 does not divide the 16 input channels of features.2"),
        ("--num-classes 5", "num_classes=5, but pictures has 2 classes"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    message: str,
) -> None:
    out = tmp_path / "out"
    assert main(_quick(make_imagefolder(FEW), out, *more.split())) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("tinytl train: ") and message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not out.exists()


def test_out_may_not_be_a_file(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(_quick(make_imagefolder(FEW), tmp_path / "out")) == 2
    assert capsys.readouterr().err == f"tinytl train: --out {tmp_path / 'out'} is a file: choose a folder\n"


def test_divergence_exits_with_1(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "--method FT-Full --norm group_norm --base-lr 1e30".split()
    assert main(_quick(make_imagefolder(FEW), tmp_path / "out", *more)) == 1
    error = capsys.readouterr().err
    assert error.startswith("tinytl train: loss is not finite at step 2 of epoch 1")
    assert error.endswith("lower --base-lr\n")


def test_a_signature_is_used_and_stands_nowhere(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = make_imagefolder(FEW)
    assert main(_quick(root, tmp_path / "first")) == 0
    path = "/w.pt?X-Amz-Signature=hush&X-Amz-Date=1&versionId=3"
    with serve({path: whole((tmp_path / "first" / "last.pt").read_bytes())}) as (url, asked):
        flags = ["--weights", url + path]
        monkeypatch.setattr(sys, "argv", ["tinytl", *_quick(root, tmp_path / "run"), *flags])
        assert main([*_quick(root, tmp_path / "run"), *flags]) == 0
    assert asked == [path]
    # A run is repeated from what was written, without the signature: the file was downloaded before.
    assert (
        main(["train", "--config", str(tmp_path / "run/config.yaml"), "--out", str(tmp_path / "again")]) == 0
    )
    assert _weights(tmp_path / "again") == _weights(tmp_path / "run")
    assert f"{url}/w.pt?versionId=3" in (tmp_path / "run/config.yaml").read_text()
    written = [file for file in tmp_path.rglob("*") if file.is_file() and b"hush" in file.read_bytes()]
    assert not written and "hush" not in "".join(capsys.readouterr())
