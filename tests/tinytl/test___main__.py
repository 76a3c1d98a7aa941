import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cases import exists
from tests.published import cub200
from tinytl.__main__ import main
from tinytl.config import ENGINES, METHODS, NORMS, TrainConfig
from tinytl.storage_tracker import PARTS, MemoryPrediction

SMALL = "--backbone mobilenet_v2 --resolution 32 --device cpu".split()
PICTURES = {"train/red": 3, "train/blue": 3, "val/red": 1, "val/blue": 1}
ROW = ["predicted_peak_mib", "stock_inference_peak_mib", "paper_mb", "breakdown_mib", "peak_at", "plan"]


def _train(root: Path | str, out: Path | str, *more: str) -> list[str]:
    common = "train --dataset imagefolder --weights none --method FT-Last --epochs 1 --batch-size 2".split()
    return [*common, *SMALL, "--data-dir", str(root), "--out", str(out), *more]


def _memory(*more: str) -> list[str]:
    return ["memory", *SMALL, "--method", "FT-Last", "--batch-size", "2", *more]


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_train_on_a_published_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], loading: str) -> None:
    cub200(tmp_path / "birds")
    out = tmp_path / "out"
    how = ["--dataset", "CUB-200-2011", "--loading", loading, "--loader-workers", "1", "--batch-size", "50"]
    assert main(_train(tmp_path / "birds", out, *how, "--download")) == 0  # there: nothing to fetch
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
    root, out = make_imagefolder(PICTURES), tmp_path / "out"
    assert main(_train(root, out, "--lr-ratio", "classifier=0.5")) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[-1].endswith(f"no test images; results in {out / 'result.json'}")
    result = json.loads((out / "result.json").read_text())
    assert result["config"]["lr_ratio.classifier"] == 0.5
    assert result["test_accuracy_top1"] is None
    before = (out / "metrics.jsonl").read_text()

    assert main(_train(root, out)) == 2
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
    assert main(_train(make_imagefolder(PICTURES), out, *more.split())) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("tinytl train: ") and message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not out.exists()


def test_out_may_not_be_a_file(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(_train(make_imagefolder(PICTURES), tmp_path / "out")) == 2
    assert capsys.readouterr().err == f"tinytl train: --out {tmp_path / 'out'} is a file: choose a folder\n"


def test_divergence_exits_with_1(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "--method FT-Full --norm group_norm --base-lr 1e30".split()
    assert main(_train(make_imagefolder(PICTURES), tmp_path / "out", *more)) == 1
    error = capsys.readouterr().err
    assert error.startswith("tinytl train: loss is not finite at step 2 of epoch 1")
    assert error.endswith("lower --base-lr\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "tinytl train: the following arguments are required: --out"),
        (["tran"], "tinytl: argument COMMAND: invalid choice: 'tran'"),
        (["memory", "--weights", "none"], "tinytl: unrecognized arguments: --weights none"),
    ],
)
def test_unknown_flags_exit_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_memory_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--json")) == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row) == ROW
    assert tuple(row["breakdown_mib"]) == PARTS
    assert sum(row["breakdown_mib"].values()) == pytest.approx(row["predicted_peak_mib"])

    assert main(_memory("--json", "--measure")) == 0
    measured = json.loads(capsys.readouterr().out)
    assert set(measured) - set(row) == {"measured_peak_mib", "process_peak_mib"}
    assert {key: measured[key] for key in row} == row
    assert 0 < measured["measured_peak_mib"] < measured["process_peak_mib"]

    assert main(_memory("--measure")) == 0
    text = capsys.readouterr().out
    assert f"predicted peak         {row['predicted_peak_mib']:8.1f} MiB at {row['peak_at']}" in text
    assert "measured peak" in text


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for predictions that take a second each; each configuration has its own figure."""

    def predict(config: TrainConfig) -> MemoryPrediction:
        peak = (
            METHODS.index(config.method)
            + 10.0 * NORMS.index(config.norm)
            + 100.0 * config.samples_in_memory
            + 1000.0 * ENGINES.index(config.engine)
        )
        return MemoryPrediction(peak_mib=peak, parts_mib={"temporary": peak}, peak_at="here forward")

    monkeypatch.setattr("tinytl.memory_table.predict_memory", predict)
    monkeypatch.setattr("tinytl.memory_table.predict_memories", lambda configs: None)
    monkeypatch.setattr("tinytl.memory_table.stock_inference_peak_mib", lambda config: 5.0)
    monkeypatch.setattr("tinytl.memory_table.paper_memory", lambda config: 7.0)


@pytest.mark.usefixtures("quick_figures")
def test_table_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    words = _memory("--all", "--micro-batch-size", "1")
    assert main(words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:5] for row in rows] == [
        [norm, method, engine, str(micro), f"{m + 10 * n + 100 * micro + 1000 * e:.1f}"]
        for n, norm in enumerate(NORMS)
        for m, method in enumerate(METHODS)
        if exists(method, norm)
        for e, engine in reversed(list(enumerate(ENGINES)))
        for micro in [2 if norm == "batch_norm" else 1]
    ]
    assert len(rows) == 52

    assert main([*words, "--engine", "lean", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert len(table) == 26
    assert all(list(row) == ["method", "norm", "engine", "micro_batch_size", *ROW] for row in table)


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("name", ["memory.png", "memory.SVG"])
def test_figure_of_all(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--all", "--figure", str(tmp_path / name))) == 0
    assert (tmp_path / name).stat().st_size > 1000
    assert len(capsys.readouterr().out.splitlines()) == 2 + 18 + 32 + 36


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--micro-batch-size 3", "micro_batch_size=3 is above batch_size=2"),
        ("--figure memory.png", "--figure draws the table of --all: give both"),
        ("--all --figure memory.bmp", "--figure memory.bmp: name a file that ends in .png or .svg"),
        ("--all --figure /nowhere/memory.png", "--figure /nowhere/memory.png: no such folder as /nowhere"),
        ("--plan budget", "plan=budget without budget_mib: give the budget in MiB"),
        (
            "--all --plan budget --budget-mib 9",
            "--all shows what each takes, over the budget or not: leave out --plan budget",
        ),
        ("--budget-mib 9", "budget_mib=9 has no effect with plan=fast: use plan=budget"),
    ],
)
def test_mistakes_in_memory(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory(*words.split())) == 2
    assert capsys.readouterr() == ("", f"tinytl memory: {message}\n")


@pytest.mark.usefixtures("quick_figures")
def test_what_an_alias_stands_for_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--method", "bias")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "method bias stands for TinyTL-B"
    assert lines[1].startswith("TinyTL-B on mobilenet_v2")
    assert main(_memory("--method", "bias", "--json")) == 0
    assert "paper_mb" in json.loads(capsys.readouterr().out)


def test_plans_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_memory("--json", "--plan", "smallest")) == 0
    least = json.loads(capsys.readouterr().out)
    assert least["plan"] == {
        "plan": "smallest",
        "micro_batch_size": 1,
        "checkpoint": "none",
        "stock_below_kib": 0.0,
    }
    assert main(_memory("--plan", "budget", "--budget-mib", "1")) == 2
    assert capsys.readouterr() == (
        "",
        "tinytl memory: budget_mib=1 is under the least that FT-Last with frozen_bn on mobilenet_v2 takes at "
        f"32 px: {least['predicted_peak_mib']:.1f} MiB with micro-batches of 1, nothing run again, "
        f"at {least['peak_at']}, most of it parameters ({least['breakdown_mib']['parameters']:.1f} MiB)\n",
    )
    assert main(_memory("--checkpoint", "all")) == 0
    assert "plan fast: micro-batches of 2, every block run again" in capsys.readouterr().out


def test_as_a_program(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tinytl", *_train("/nowhere", tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tinytl train: --data-dir /nowhere: no such folder\n"
