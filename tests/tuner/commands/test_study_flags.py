import pytest

from tests.support.synthetic_study import write_study
from tuner.__main__ import build_parser, main
from tuner.config import StudyConfig

OF_A_STUDY = ("status", "report", "best", "finish", "export", "sync", "prune", "delete")
WITH_A_BUDGET = ("best", "finish", "export")
UNREACHABLE = "nosuchdb://x"


@pytest.mark.parametrize("command", OF_A_STUDY)
def test_a_command_looks_where_launch_puts_studies_and_in_the_storage_that_the_study_names(command):
    args = build_parser().parse_args([command, "mine"])
    assert (args.name, args.runs_dir, args.storage) == ("mine", StudyConfig.runs_dir, None)


@pytest.mark.parametrize("command", OF_A_STUDY)
def test_a_command_asks_the_folder_and_the_storage_that_are_given(command, tmp_path, capsys):
    write_study(tmp_path, "mine", 1, 1)
    assert main([command, "mine", "--runs-dir", str(tmp_path), "--storage", UNREACHABLE]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"tuner {command}: ") and UNREACHABLE in err and err.count("\n") == 1
    assert main([command, "other", "--runs-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "other" in err and str(tmp_path) in err and err.count("\n") == 1


@pytest.mark.parametrize("command", WITH_A_BUDGET)
def test_a_budget_is_a_number_of_mib_and_the_studys_own_unless_given(command):
    parser = build_parser()
    assert parser.parse_args([command, "mine"]).under_mib is None
    assert parser.parse_args([command, "mine", "--under-mib", "59.5"]).under_mib == 59.5
