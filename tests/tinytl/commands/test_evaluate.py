import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tinytl.conftest import write_imagefolder
from tinytl.__main__ import main
from tinytl.config.names import METRICS

PICTURES = {"train/red": 5, "train/blue": 4, "val/red": 2, "val/blue": 1, "test/red": 3, "test/blue": 1}
FLAGS = (
    "train --dataset imagefolder --weights none --backbone mobilenet_v2 --resolution 32 --device cpu "
    "--method FT-Full --norm group_norm --batch-size 4 --base-lr 3e-3 --epochs 3 "
    "--micro-batch-size 4 --checkpoint none --stock-below-kib 0"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    pictures, out = write_imagefolder(folder / "pictures", PICTURES), folder / "run"
    assert main([*FLAGS, "--data-dir", str(pictures), "--out", str(out)]) == 0
    return out


def _evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_it_says_what_training_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((run / "result.json").read_text())
    last = _evaluate(capsys, str(run), "--epoch", "last")
    assert (last["accuracy_top1"], last["epoch"], last["images"]) == (result["val_accuracy_top1"], 3, 3)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert last["loss"] == pytest.approx(metrics[-1]["val_loss"])
    best = _evaluate(capsys, str(run))
    assert (
        best["accuracy_top1"] == result["best_val_accuracy_top1"] == max(m["accuracy_top1"] for m in metrics)
    )
    assert best["epoch"] == result["best_epoch"]
    test = _evaluate(capsys, str(run), "--epoch", "last", "--split", "test")
    assert (test["accuracy_top1"], test["images"]) == (result["test_accuracy_top1"], 4)
    assert _evaluate(capsys, str(run / "last.pt"), "--split", "test") == test

    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    first, second, *_ = shown.splitlines()
    assert first == f"pictures, {best['images']} val images ({run / 'best.pt'}, epoch {best['epoch']})"
    assert second.startswith(f"accuracy {best['accuracy_top1']:.3f} ± ")
    row = metrics[best["epoch"] - 1]
    assert {name: best[name] for name in METRICS} == {name: row[name] for name in METRICS}
    assert [row["name"] for row in best["per_class"]] == ["blue", "red"]
    assert sum(map(sum, best["confusion"])) == best["images"]


def test_pictures_of_what_is_taken_for_what(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures"
    found = _evaluate(capsys, str(run), "--figures", str(figures))
    names = ["confusion.png", "reliability.png"]
    names += ["mistakes.png", "uncertain.png"] if found["worst_mistakes"] else ["uncertain.png"]
    assert found["figures"] == [str(figures / name) for name in names]
    assert all(Path(path).stat().st_size > 5000 for path in found["figures"])
    (tmp_path / "file").touch()
    assert main(["evaluate", str(run), "--figures", str(tmp_path / "file")]) == 2
    assert "is a file: choose a folder" in capsys.readouterr().err


def test_mistakes_and_uncertain_pictures_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = run.parent / "pictures"
    other = tmp_path / "swapped"
    shutil.copytree(pictures / "test" / "red", other / "blue")
    shutil.copytree(pictures / "test" / "blue", other / "red")
    for arguments, n_images in (("--split train", 9), (f"--data-dir {other}", 4)):
        found = _evaluate(capsys, str(run), *arguments.split())
        wrong = {row["file"]: row for row in found["worst_mistakes"]}
        assert len(wrong) == n_images - round(found["accuracy_top1"] * n_images)
        assert len(found["least_certain"]) == n_images
        root = other if arguments.startswith("--data") else pictures
        for row in found["least_certain"]:
            assert (root / row["file"]).is_file() and f"/{row['label']}/" in f"/{row['file']}"
            assert (row["file"] in wrong) is (row["predicted"] != row["label"])
        capsys.readouterr()
        assert main(["evaluate", str(run), *arguments.split()]) == 0
        shown = capsys.readouterr().out
        assert all((f"  {file}: " in shown) for file in list(wrong)[:5])
    assert wrong  # with the labels swapped some are


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("/nowhere", "/nowhere: no such checkpoint"),
        (".", ". has no best.pt: is it a run, and has its first epoch ended?"),
        ("RUN --dataset digits", "knows 2 classes, the data set has 10"),
        ("RUN --dataset cifar10 --download", "--download needs --data-dir"),  # not into the run's own folder
        ("RUN --images-at-once 0", "--images-at-once 0: must be at least 1"),
        ("RUN --data-dir /nowhere", "--data-dir /nowhere: no such folder"),
        ("RUN --data-dir RUN/other", "class cat is none of the network's"),
        ("RUN --data-dir RUN/other --split val", "class 0 is 'blue' there and 'cat' in the data set"),
    ],
)
def test_mistakes(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    from PIL import Image

    for name in ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png", "dog/3.png"):
        (run / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(run / "other" / name)
    monkeypatch.chdir(run.parent)
    capsys.readouterr()
    assert main(["evaluate", *arguments.replace("RUN", str(run)).split()]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_split_that_is_not_there(
    make_imagefolder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_imagefolder({name: n for name, n in PICTURES.items() if not name.startswith("test")})
    out = tmp_path / "run"
    assert main([*FLAGS, "--epochs", "1", "--data-dir", str(root), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--split", "test"]) == 2
    assert capsys.readouterr().err == "tinytl evaluate: --split test: pictures has no test images\n"


def test_a_run_is_evaluated_from_any_folder(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_imagefolder(PICTURES)
    monkeypatch.chdir(root.parent)
    assert main([*FLAGS, "--epochs", "1", "--data-dir", root.name, "--out", "run"]) == 0
    monkeypatch.chdir("/")
    run = str(root.parent / "run")
    # Other numbers of images at once round other sums.
    assert _rounded(_evaluate(capsys, run)) == _rounded(_evaluate(capsys, run, "--images-at-once", "1"))


def _rounded(found: Any) -> Any:
    """Returns the same with numbers of five digits."""
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_rounded(value) for value in found]
    return float(f"{found:.5g}") if isinstance(found, float) else found


def _judged(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    return {key: row for key, row in _evaluate(capsys, *arguments).items() if key != "checkpoint"}


def test_a_folder_of_classes_is_judged_whole(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = write_imagefolder(tmp_path / "new", {"red": 2, "blue": 3})
    found = _judged(capsys, str(run), "--data-dir", str(every))
    assert (found["images"], found["split"], found["dataset"]) == (5, "all", "new")
    some = write_imagefolder(tmp_path / "reds", {"red": 4})
    assert _judged(capsys, str(run), "--data-dir", str(some))["images"] == 4
    split = write_imagefolder(tmp_path / "split", PICTURES)
    assert (found := _judged(capsys, str(run), "--data-dir", str(split)))["split"] == "val"
    assert found["images"] == 3

    (every / "red" / "broken.png").write_bytes(b"")
    assert main(["evaluate", str(run), "--data-dir", str(every)]) == 2
    assert "broken.png does not decode" in capsys.readouterr().err
    skipping = _judged(capsys, str(run), "--data-dir", str(every), "--skip-broken")
    assert skipping["images"] == 5


def test_a_trials_folder_needs_no_flag(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = tmp_path / "trial"
    shutil.copytree(run, trial)
    (trial / "best.pt").unlink()  # trials keep their last epoch alone
    assert _judged(capsys, str(trial)) == _judged(capsys, str(run), "--epoch", "last")
    assert main(["evaluate", str(trial), "--epoch", "best"]) == 2
    assert "add --epoch last" in capsys.readouterr().err


def test_a_list_leaves_pictures_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drop.txt").write_text("val/red/00.png\n")
    dropped = ["--exclude", str(tmp_path / "drop.txt")]
    assert (_evaluate(capsys, str(run))["images"], _evaluate(capsys, str(run), *dropped)["images"]) == (3, 2)
    (tmp_path / "drop.txt").write_text("red/00.png\n")  # of a folder of classes, judged whole
    classes = ["--data-dir", str(run.parent / "pictures" / "test")]
    assert _evaluate(capsys, str(run), *classes)["images"] == 4
    assert _evaluate(capsys, str(run), *classes, *dropped)["images"] == 3
