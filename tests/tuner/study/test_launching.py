from rich.console import Console

from tuner.config import StudyConfig
from tuner.study.launching import launch_study


def test_a_dry_run_shows_what_would_be_tried_and_writes_nothing(tmp_path, capsys):
    config = StudyConfig(
        space="separate_lr",
        weights="none",
        settings=("resolution=32",),
        runs_dir=str(tmp_path / "runs"),
        dry_run=True,
    )
    assert launch_study(config, Console()) is None
    shown = capsys.readouterr().out
    assert "What would be tried" in shown and "user_report" in shown
    assert not list(tmp_path.iterdir())
