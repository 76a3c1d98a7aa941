"""Bad input: exit code 2 and one line that says what is wrong, before Ray, with nothing written."""

import datetime
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from PIL import Image

import launch
from tinytl.build import build_model
from tinytl.config.plan import NEARLY_LEAST
from tinytl.config.train_config import TrainConfig
from tinytl.memory.curve import memory_curve
from tinytl.networks.backbones import BACKBONES
from tuner.cluster.start import Cluster
from tuner.config import parse_study
from tuner.record import schema
from tuner.record.claim import folder_claimed
from tuner.record.storage import open_storage
from tuner.study.opening import opened
from tuner.study.prepare import prepare
from tuner.trial_config import parse_settings, trial_config

ROOT = Path(launch.__file__).parent
ONE_WAY = ("checkpoint=none", "stock_below_kib=0")
"""Settings that leave few plans to predict."""


@pytest.fixture
def images(tmp_path):
    """A folder with two classes of four small pictures."""
    folder = tmp_path / "images"
    for name, grey in (("bright", 200), ("dark", 20)):
        (folder / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(np.full((36, 36, 3), grey + index, np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """No mistake needs Ray, which would start beside the later checks, and take seconds."""
    monkeypatch.setattr(Cluster, "begin", lambda self: None)


@pytest.fixture
def runs_dir(tmp_path):
    return tmp_path / "runs"


def one_line_of(capsys, argv, runs_dir) -> str:
    assert launch.main(["--runs-dir", str(runs_dir), *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert not runs_dir.exists(), "something was written"
    return err


BAD_FLAGS = [
    (["--space", "jont"], "unknown space 'jont': did you mean 'joint'?"),
    (["--backbone", "mobilenet"], "unknown backbone 'mobilenet': did you mean 'mobilenet_v2'?"),
    (["--space", "README.md"], "--space README.md: not a YAML file of a space"),
    (["--set", "method=lora"], "unknown method 'lora': known: FT-Last, FT-Norm+Last"),
    (["--set", "method=TinyLT-B"], "unknown method 'TinyLT-B': did you mean 'TinyTL-B'?"),
    (["--dataset", "digit"], "unknown dataset 'digit': did you mean 'digits'?"),
    (["--sampler", "tpee"], "unknown sampler 'tpee': did you mean 'tpe'?"),
    (["--scheduler", "non"], "unknown scheduler 'non': did you mean 'none'?"),
    (["--dataset", "cifar10"], "dataset cifar10 needs --data-dir, a folder with cifar-10-python.tar.gz"),
    (["--dataset", "cars", "--data-dir", ".", "--download"], "--download: Stanford Cars cannot be fetched"),
    (["--dataset", "food101", "--download"], "--download needs --data-dir, the folder to put Food-101 in"),
    (["--set", "loading=memory,stream"], "joint does not search loading"),
    (["--set", "n_group=2"], "unknown parameter 'n_group': did you mean 'n_groups'?"),
    (["--set", "resolution"], "--set resolution: write KEY=VALUE"),
    (["--set", "resolution=large"], "resolution='large' is not a whole number"),
    (["--set", "optimizer=adam,sgd"], "joint does not search optimizer"),
    (["--trials", "0"], "--trials 0: must be at least 1"),
    (["--epochs", "0"], "--epochs 0: must be at least 1"),
    (["--workers", "0"], "--workers 0: must be at least 1"),
    (["--memory-budget-mib", "-3"], "--memory-budget-mib -3: must be a number above 0"),
    (["--scheduler", "pareto", "--epochs", "1"], "no rung lies before the last of --epochs 1: train longer"),
    (["--scheduler", "asha", "--rungs", "3,9"], "no rung lies before the last of --epochs 3"),
    (["--scheduler", "asha", "--rungs", "one"], "--rungs one: write epochs, such as 1,3"),
    (["--rungs", "1"], "--rungs 1 without --scheduler asha or pareto: nothing is stopped"),
    (["--gpus-per-trial", "0"], "--gpus-per-trial 0: must be a number above 0"),
    (["--pack", "--gpus-per-trial", "0.5"], "--pack gives each trial a share of its own"),
    (["--confirm", "-1"], "--confirm -1: must be at least 0"),
    (["--warm-start", "../x"], "--warm-start '../x': use letters"),
    (["--warm-start", "gone"], "no studies under"),
    (["--from-config", "gone.yaml"], "--from-config gone.yaml: no such file"),
    (["--storage", "postgresql://127.0.0.1:9/none"], "--storage: no database at 127.0.0.1:9 answers there"),
    (["--storage", "sqlite:////nowhere/at/all.db", "--resume", "--name", "x"], "no folder /nowhere/at"),
    (["--time-budget", "nan"], "--time-budget nan: must be a number above 0"),
    (["--name", "a/b"], "--name 'a/b': use letters, digits"),
    (["--name", ".."], "--name '..': use letters, digits"),
    (["--name", "it's"], "use letters, digits"),
    (["--name", "mlflow.db"], "no name that begins with mlartifacts, mlflow.db, optuna.journal"),
    (
        ["--tracking-uri", "foo://bar"],
        "--tracking-uri foo://bar: write an address that begins",
    ),
    (["--tracking-uri", "none2"], "--tracking-uri none2: write an address that begins with one of http"),
    (
        ["--tracking-uri", "http://127.0.0.1:port"],
        "--tracking-uri http://127.0.0.1:port: write SCHEME://HOST",
    ),
    (
        ["--tracking-uri", "http://u:p/w@127.0.0.1:1"],
        "--tracking-uri http://127.0.0.1:1: write SCHEME://HOST",
    ),
    (["--storage", "postgresql://u@h:99999/x"], "a port from 0 to 65535"),
    (["--set", "device=cuda"], "device=cuda, but torch finds no GPU here"),
    (["--resume"], "--resume needs --name"),
    (["--resume", "--name", "nowhere"], "--resume: no study nowhere"),
    (["--dataset", "imagefolder"], "dataset imagefolder needs --data-dir"),
    (["--dataset", "imagefolder", "--data-dir", "/nowhere"], "--data-dir /nowhere: no such folder"),
    (["--data-dir", "."], "add --dataset imagefolder"),
    (["--weights", "nowhere.pt"], "--weights nowhere.pt: no such file"),
    (["--backbone", "proxylessnas_mobile"], "use --weights FILE or URL (https://"),
    (["--weights", "imagenet_v1"], "efficientnet_lite0 has no such set, it has imagenet"),
    (["--weights", "http://127.0.0.1:9/w.pt"], "--weights http://127.0.0.1:9/w.pt: could not"),
    (["--set", "method=TinyTL-L", "--lite-weights", "nowhere.pt"], "--lite-weights nowhere.pt: no such file"),
    (["--space", "separate_lr", "--lite-weights", "l.pt"], "lite_weights=l.pt has no effect: FT-"),
    (["--space", "update_method", "--set", "method=Scratch"], "use norm batch_norm or group_norm"),
    (["--input-mean", "0.5,0.5"], "input_mean=(0.5, 0.5) is not three numbers"),
    (["--space", "separate_lr", "--set", "micro_batch_size=2"], "micro_batch_size=2 with norm=batch_norm"),
    (["--set", "batch_size=8", "--set", "micro_batch_size=3"], "micro_batch_size=3 does not divide"),
    (
        ["--space", "lite_residual", "--set", "n_groups=1,3"],
        "n_groups=3 does not divide the 16 input channels",
    ),
    (["--tracking-uri", "http://127.0.0.1:9"], "no MLflow server answers there"),
    (["--address", "127.0.0.1:1"], "no Ray cluster answers there"),
    (["--address", "here"], "write HOST:PORT"),
    (["--dashboard-port", "8266"], "--dashboard-port 8266: add --dashboard"),
    (["--dashboard", "--dashboard-port", "70000"], "a port is a number from 1 to 65535"),
    (["--storage", "nosuchdb://x"], "--storage nosuchdb://x: cannot be opened"),
]


@pytest.mark.parametrize(("argv", "message"), BAD_FLAGS, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line(argv, message, capsys, runs_dir):
    assert message in one_line_of(capsys, argv, runs_dir)


def test_a_flag_that_does_not_parse_is_one_line(capsys, runs_dir):
    for argv in (["--epochs", "many"], ["--no-such-flag"]):
        with pytest.raises(SystemExit) as stopped:
            launch.main(argv)
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_budget_under_every_configuration_names_the_floor(capsys, runs_dir):
    line = one_line_of(
        capsys, ["--memory-budget-mib", "2", "--set", "resolution=32", "--set", "method=FT-Last"], runs_dir
    )
    assert (
        "the least is " in line
        and " MiB (FT-Last" in line
        and "batch 8, " in line
        and " at a time, nothing recomputed), at " in line
        and line.endswith(" MiB)\n")
    )


def test_a_budget_that_a_slower_plan_fits_names_the_slowdown(capsys, runs_dir):
    settings = ["resolution=32", "method=FT-Full", "norm=batch_norm", "batch_size=8"]
    config = trial_config(TrainConfig(weights="none", num_classes=10), dict(parse_settings(settings)))
    slower = memory_curve(config)[1]
    argv = ["--memory-budget-mib", str(slower.peak_memory_mib), "--max-slowdown", "1"]
    line = one_line_of(capsys, [*argv, *(f"--set={setting}" for setting in settings)], runs_dir)
    assert "needs within --max-slowdown 1: the least is " in line
    assert line.endswith(f"; --max-slowdown {math.ceil(slower.slowdown * 100) / 100:g} would fit\n")


def test_a_plan_of_a_budget_without_one_is_told(capsys, runs_dir):
    line = one_line_of(capsys, ["--set", "plan=budget"], runs_dir)
    assert "plan=budget without a budget: add --memory-budget-mib MIB" in line


@pytest.mark.slow  # every plan of a network, twice
def test_the_floor_of_a_plan_of_a_budget_is_that_of_the_smallest(capsys, runs_dir):
    settings = ["resolution=32", "method=FT-Full", "norm=batch_norm", "stock_below_kib=0"]
    argv = ["--memory-budget-mib", "2", *(f"--set={setting}" for setting in settings)]
    floors = {
        plan: one_line_of(capsys, [*argv, "--set", f"plan={plan}"], runs_dir).partition(" the least is ")[2]
        for plan in ("fast", "smallest", "budget")
    }
    assert floors["budget"] == floors["smallest"]
    # A trial of plan fast has all plans; `smallest` takes a faster one that needs nearly the least.
    least, nearly = (float(floors[plan].split()[0]) for plan in ("fast", "smallest"))
    assert least <= nearly <= NEARLY_LEAST * least
    assert " recomputed), at " in floors["budget"]


@pytest.mark.slow  # every plan of a network
def test_the_floor_is_held_against_the_budget_of_a_plan_too(capsys, runs_dir):
    settings = ["plan=budget", "budget_mib=2", "resolution=32", "method=FT-Last", "norm=frozen_bn"]
    line = one_line_of(capsys, [f"--set={setting}" for setting in settings], runs_dir)
    assert "budget_mib 2 is under what every configuration of space joint needs within --max-slowdown" in line


def test_an_own_space_with_an_unknown_parameter_is_told(capsys, runs_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text("parameters:\n  base_lrr: {low: 1e-4, high: 1e-2}\n")
    line = one_line_of(capsys, ["--space", str(tmp_path / "mine.yaml")], runs_dir)
    assert "space mine: unknown parameter 'base_lrr': did you mean 'base_lr'?" in line


def test_a_parameter_that_the_study_fixes_cannot_be_searched(capsys, runs_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text("parameters:\n  epochs: {choices: [1, 2]}\n")
    line = one_line_of(capsys, ["--space", str(tmp_path / "mine.yaml")], runs_dir)
    assert "epochs is the same for a whole study" in line


def test_impossible_combinations_of_a_space_are_told(capsys, runs_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "parameters:\n  norm: {choices: [batch_norm, frozen_bn]}\n  micro_batch_size: {choices: [2, 4]}\n"
    )
    line = one_line_of(capsys, ["--space", str(tmp_path / "mine.yaml")], runs_dir)
    assert "some configurations are impossible" in line and "with norm=batch_norm" in line


class TestImages:
    def run(self, capsys, images, runs_dir) -> str:
        return one_line_of(capsys, ["--dataset", "imagefolder", "--data-dir", str(images)], runs_dir)

    def test_an_empty_folder(self, capsys, tmp_path, runs_dir):
        (tmp_path / "empty").mkdir()
        assert "no class folder with images" in self.run(capsys, tmp_path / "empty", runs_dir)

    def test_one_class(self, capsys, images, runs_dir):
        for path in (images / "dark").iterdir():
            path.unlink()
        assert "only one class (bright)" in self.run(capsys, images, runs_dir)

    def test_an_image_that_does_not_decode_is_named(self, capsys, images, runs_dir):
        whole = (images / "dark" / "3.png").read_bytes()
        (images / "dark" / "3.png").write_bytes(whole[: len(whole) // 2])
        line = self.run(capsys, images, runs_dir)
        assert str(images / "dark" / "3.png") in line and "does not decode" in line


class TestWeights:
    def test_the_first_tensor_that_does_not_fit_is_named(self, capsys, tmp_path, runs_dir):
        torch.save({"features.0.0.weight": torch.zeros(32, 3, 5, 5)}, tmp_path / "w.pt")
        argv = ["--backbone", "mobilenet_v2", "--weights", str(tmp_path / "w.pt")]
        line = one_line_of(capsys, argv, runs_dir)
        assert "features.0.0.weight has shape (32, 3, 5, 5), the network needs (32, 3, 3, 3)" in line

    def test_weights_that_need_the_network_name_the_flag(self, capsys, tmp_path, runs_dir, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        assert launch.main(["--backbone", "mobilenet_v2", "--runs-dir", str(runs_dir)]) == 2
        assert "use --weights FILE, --weights none" in capsys.readouterr().err
        assert not runs_dir.exists()

    def test_a_norm_of_the_space_that_the_file_does_not_fit(self, capsys, tmp_path, runs_dir):
        state = BACKBONES["mobilenet_v2"].build(3).state_dict()
        group_norm = {name: value for name, value in state.items() if "running" not in name}
        torch.save(group_norm, tmp_path / "w.pt")
        argv = ["--backbone", "mobilenet_v2", "--weights", str(tmp_path / "w.pt"), "--dry-run"]
        assert "norm=frozen_bn needs it" in one_line_of(capsys, argv, runs_dir)

    def test_lite_residuals_that_some_geometry_of_the_space_does_not_fit(self, capsys, tmp_path, runs_dir):
        lite = self.lite_residuals(tmp_path, n_groups=2)
        argv = ["--space", "lite_residual", "--backbone", "mobilenet_v2", "--weights", "none", "--dry-run"]
        # What takes least memory fits, two groups, and one group does not.
        for setting in ("resolution=64", "n_groups=1,2", *self.geometry[1:]):
            argv += ["--set", setting]
        assert "try n_groups=2" in one_line_of(capsys, [*argv, "--lite-weights", lite], runs_dir)

    def test_lite_residuals_that_fit(self, capsys, tmp_path, runs_dir):
        lite = self.lite_residuals(tmp_path)
        argv = ["--space", "joint", "--backbone", "mobilenet_v2", "--weights", "none", "--lite-weights", lite]
        argv += ["--trials", "1"]
        one_size = ("resolution=64", "norm=frozen_bn", "batch_size=8", "micro_batch_size=8", *ONE_WAY)
        for setting in ("method=TinyTL-L,TinyTL-L+B", *one_size, *self.geometry):
            argv += ["--set", setting]
        assert launch.main([*argv, "--dry-run", "--runs-dir", str(runs_dir)]) == 0
        assert capsys.readouterr().err == ""

    geometry = ("n_groups=2", "expand=1", "kernel_size=3", "downsample_ratio=2")

    def lite_residuals(self, tmp_path, **changes) -> str:
        config = TrainConfig(backbone="mobilenet_v2", weights="none", num_classes=3, resolution=64, **changes)
        torch.save(build_model(config).net.state_dict(), tmp_path / "lite.pt")
        return str(tmp_path / "lite.pt")


def test_simple_mistakes_are_found_before_torch_and_ray_are_imported():
    code = (
        "import sys, launch; code = launch.main(['--space', 'jont']); "
        "print(code, sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "2 []"


def test_a_space_that_another_study_has_is_not_resumed(capsys, tmp_path):
    study = optuna.create_study(study_name="mine", storage=open_storage(None, str(tmp_path)))
    study.set_user_attr("space", "joint")
    argv = ["--name", "mine", "--resume", "--space", "separate_lr", "--runs-dir", str(tmp_path)]
    assert launch.main(argv) == 2
    assert "which has space joint, not separate_lr: give the flags that began it" in capsys.readouterr().err


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A study that was begun and has no trial yet."""
    runs_dir = tmp_path_factory.mktemp("begun")
    argv = ["--name", "mine", "--weights", "none", "--set", "resolution=32", "--runs-dir", str(runs_dir)]
    config, _ = parse_study(argv)
    with opened(prepare(config, datetime.datetime(2020, 1, 1))) as (study, _):
        assert study.user_attrs[schema.REQUESTED] == 12
    return runs_dir


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "1"], "study mine has seed 0, not 1"),
        (["--epochs", "5"], "study mine has epochs 3, not 5: leave that out, or start another study"),
        (["--set", "resolution=48"], "has the fixed resolution 32, not 48"),
        (
            ["--set", "resolution=32", "--set", "batch_size=8,16"],
            "has the parameter batch_size 8, 16, 32, not 8, 16:",
        ),
        (["--set", "resolution=32", "--set", "n_groups=2"], "has the parameter n_groups 1, 2, 4, 8"),
        (["--set", "resolution=32,64"], "has not the parameter resolution (32, 64)"),
        (["--set", "resolution=32", "--set", "method=TinyTL-B,TinyTL-L"], "the parameter method FT-Last,"),
    ],
)
def test_a_study_that_has_changed_is_not_resumed_and_the_change_is_named(flags, message, capsys, begun):
    assert launch.main(["--name", "mine", "--resume", "--runs-dir", str(begun), *flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err


def test_a_study_that_runs_is_refused_before_ray_is_started(capsys, begun, monkeypatch):
    monkeypatch.setattr(Cluster, "begin", lambda self: pytest.fail("Ray was started"))
    with folder_claimed(begun / "mine", "mine"):
        assert launch.main(["--name", "mine", "--resume", "--runs-dir", str(begun)]) == 2
    assert "study mine is being run by process" in capsys.readouterr().err


def test_a_study_that_was_killed_before_it_was_whole_can_be_started_or_removed(capsys, tmp_path):
    """A driver that is killed while Ray starts leaves its lock; then, a study without a word on it."""
    runs_dir = tmp_path / "runs"
    (runs_dir / "mine").mkdir(parents=True)
    (runs_dir / "mine" / "driver.lock").write_text("{}")
    argv = ["--name", "mine", "--weights", "none", "--runs-dir", str(runs_dir)]
    argv += [f"--set={setting}" for setting in ("resolution=32", "method=FT-Last", *ONE_WAY)]
    argv += ["--trials", "2"]
    assert launch.main([*argv, "--dry-run"]) == 0
    directions = ["maximize", "minimize"]
    optuna.create_study(study_name="mine", storage=open_storage(None, str(runs_dir)), directions=directions)
    assert launch.main([*argv, "--dry-run"]) == 2
    assert "study mine exists" in capsys.readouterr().err
    assert launch.main([*argv, "--resume", "--dry-run"]) == 2
    assert "python -m tuner delete mine" in capsys.readouterr().err


def test_weights_of_a_relative_path_are_the_same_when_the_study_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(BACKBONES["efficientnet_lite0"].build(2).state_dict(), "w.pt")
    argv = ["--name", "mine", "--set", "resolution=32", "--set", "method=FT-Last", "--weights", "w.pt"]
    prepared = prepare(parse_study(argv)[0], datetime.datetime(2020, 1, 1))
    with opened(prepared):
        pass
    assert launch.main(["--name", "mine", "--resume", "--dry-run"]) == 0


def test_a_study_cannot_shrink(capsys, begun, monkeypatch):
    monkeypatch.setattr("tuner.record.reading.StudyReading.ended", 3)
    argv = ["--name", "mine", "--resume", "--runs-dir", str(begun), "--trials", "2"]
    assert launch.main(argv) == 2
    assert "--trials 2: study mine has 3 already" in capsys.readouterr().err


def test_weights_none_in_a_file_are_no_weights(capsys, runs_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "fixed: {weights: none, norm: group_norm, resolution: 32, method: ft-last}\n"
        "parameters:\n  base_lr: {low: 1e-4, high: 1e-2}\n"
    )
    argv = ["--space", str(tmp_path / "mine.yaml"), "--dry-run", "--runs-dir", str(runs_dir)]
    assert launch.main(argv) == 0
    out, err = capsys.readouterr()
    assert "sample 5" in out and err == ""


def test_a_dry_run_with_a_database_makes_none(capsys, runs_dir, tmp_path):
    argv = ["--dry-run", "--space", "separate_lr", "--set", "resolution=32", "--runs-dir", str(runs_dir)]
    assert launch.main([*argv, "--storage", f"sqlite:///{tmp_path / 'optuna.db'}"]) == 0
    assert not (tmp_path / "optuna.db").exists()


def test_list_spaces_names_them_all(capsys):
    assert launch.main(["--list-spaces"]) == 0
    out = capsys.readouterr().out
    for name in ("joint", "separate_lr", "lite_residual", "group_norm", "update_method"):
        assert name in out


def test_a_dry_run_shows_memory_and_writes_nothing(capsys, runs_dir):
    argv = ["--dry-run", "--trials", "3", "--set", "resolution=32", "--runs-dir", str(runs_dir)]
    argv += [f"--set={setting}" for setting in ONE_WAY]
    assert launch.main(argv) == 0
    out = capsys.readouterr().out
    assert "user_report" in out and "tinytl_paper" in out and "memory MiB" in out
    assert not runs_dir.exists()


def test_a_space_whose_memory_cannot_vary_says_so(capsys, runs_dir):
    argv = ["--space", "separate_lr", "--dry-run", "--set", "resolution=32", "--runs-dir", str(runs_dir)]
    assert launch.main(argv) == 0
    assert "searched for accuracy alone" in capsys.readouterr().out
