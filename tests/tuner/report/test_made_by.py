import pytest

from tests.support import mlflow_studies as made
from tuner.config import parse_study
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.report.made_by import at_once, commands

FIRST = "python launch.py --trials 8 --name s --memory-budget-mib 30 --max-failures 0"
AGAIN = "python launch.py --name s --resume"


@pytest.fixture
def said(tmp_path):
    """What is said of a study whose drivers had these commands."""
    session = made.new_study(made.prepared_study(tmp_path)).user_attrs[schema.SESSIONS][0]

    def say(*lines):
        sessions = [session | {"command": line} for line in lines]
        return commands(StudyReading(name="s", attributes={schema.SESSIONS: sessions}))

    return say


def test_each_driver_has_its_command(said):
    assert said(FIRST) == {"The command": FIRST}
    found = said(FIRST, AGAIN, AGAIN, f"{AGAIN} --trials 16")
    assert found["The command"] == FIRST
    assert found["Resumed with"] == f"{AGAIN}\n{AGAIN} --trials 16"


def test_a_study_of_an_older_version_has_its_last_command():
    def older(*command):
        return commands(StudyReading(name="s", settings={"command": command}))

    found = older("launch.py", "--storage", "postgresql://a:secret@db/x")
    assert found == {"The command": "python launch.py --storage postgresql://a@db/x"}
    assert older(*AGAIN.split()[1:]) == {"Resumed with": AGAIN}
    assert commands(StudyReading(name="s")) == {}


def test_at_once_has_what_holds_for_one_call_only(said):
    given = f"{FIRST} --warm-start old --from-config 'my points.yaml' --set norm=a,b --set resolution=32"
    whole = said(f"{given} --time-budget 60", f"{AGAIN} --trials 16")["The whole study at once"]
    assert whole == given.replace("--trials 8", "--trials 16")


def test_a_zero_is_a_value():
    assert "--max-failures 0" in str(at_once("python launch.py", [f"{AGAIN} --max-failures 0"]))


def test_what_is_said_is_what_the_calls_came_to():
    calls = [FIRST, f"{AGAIN} --trials 16", f"{AGAIN} --workers 2 -v --max-failures 3"]
    config, _ = parse_study(str(at_once(calls[0], calls[1:])).split()[2:])
    assert (config.trials, config.workers, config.max_failures) == (16, 2, 3)
    assert config.memory_budget_mib == 30 and not config.verbose and not config.resume


@pytest.mark.parametrize(
    "flags",
    [
        "--memory-budget-mib 60",
        "--warm-start old",
        "--from-config x.yaml",
        "--seed 1",
        "--set norm=a",
        "--gone-since 1",
    ],
)
def test_a_search_that_changed_on_its_way_is_not_told_as_one(said, flags):
    assert list(said(FIRST, f"{AGAIN} {flags}")) == ["The command", "Resumed with"]


def test_the_same_value_again_changes_nothing():
    given = f"{FIRST} --warm-start old --set norm=a"
    assert at_once(given, [f"{AGAIN} --warm-start old --set norm=a --memory-budget-mib 30 --seed 0"]) == given
