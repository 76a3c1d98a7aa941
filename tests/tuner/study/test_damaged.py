import optuna
import torch
from optuna.trial import TrialState

from tuner.record import schema
from tuner.study.damaged import set_aside_damaged


def waiting(study: optuna.Study, **attributes: str) -> None:
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes))


def test_damaged_checkpoints_of_trials_that_go_on_are_renamed_and_named(tmp_path):
    study = optuna.create_study()
    for index in range(4):
        waiting(study, **{schema.AGAIN: f"s-{index:03d}"})
        (tmp_path / f"s-{index:03d}").mkdir()
    waiting(study)
    for index in range(3):
        torch.save({"w": torch.arange(1000.0)}, tmp_path / f"s-{index:03d}" / "last.pt")
    flipped, cut = tmp_path / "s-001" / "last.pt", tmp_path / "s-002" / "last.pt"
    whole = flipped.read_bytes()
    place = whole.index(torch.arange(1000.0).numpy().tobytes()[:64]) + 999
    flipped.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    cut.write_bytes(whole[:-50])
    lines = list(set_aside_damaged(study, tmp_path))
    assert [line.rpartition(": ")[2] for line in lines] == ["s-001 begins anew", "s-002 begins anew"]
    for line, path in zip(lines, (flipped, cut), strict=True):
        assert line.startswith(f"{path} is damaged") and not path.exists()
        assert path.with_name("last.pt.damaged").exists()
    assert (tmp_path / "s-000" / "last.pt").exists()
    assert list(set_aside_damaged(study, tmp_path)) == []
