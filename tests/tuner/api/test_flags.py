import math
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tuner.api.flags import config_of, words_of
from tuner.config import StudyConfig, build_parser


def config(**flags) -> StudyConfig:
    return config_of(words_of(flags))


def test_every_flag_of_the_command_is_a_keyword():
    given = {"settings": ("resolution=32", "norm=frozen_bn,group_norm"), "rungs": "1,3", "scheduler": "asha"}
    given |= {"max_slowdown": math.inf, "epochs": 9, "memory_budget_mib": 60.5, "skip_broken": True}
    flags = {name: value for name, value in given.items() if name != "settings"}
    wanted = StudyConfig(**given)
    for several in (list(given["settings"]), {"resolution": 32, "norm": ["frozen_bn", "group_norm"]}):
        assert config(set=several, **flags | {"rungs": [1, 3]}) == wanted
    names = {action.dest for action in build_parser()._actions} - {"help"}
    assert names == {field for field in StudyConfig.__dataclass_fields__} | {"list_spaces"}


def test_paths_and_one_setting_are_values():
    assert config(data_dir=Path("a b"), set="resolution=32") == StudyConfig(
        data_dir="a b", settings=("resolution=32",)
    )


def test_none_and_false_are_flags_that_are_not_given():
    assert config(trials=None, verbose=False, submit=None, dry_run=False, list_spaces=False) == StudyConfig()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"trails": 3}, "unknown flag 'trails': did you mean 'trials'? known: space, dataset"),
        ({"settings": ["a=1"]}, "unknown flag 'settings': "),
        ({"trials": "many"}, "--trials many: a whole number is needed"),
        ({"trials": True}, "trials=True: a value is needed"),
        ({"verbose": 3}, "verbose=3: True or False is needed"),
        ({"trials": 0}, "--trials 0: must be at least 1"),
        ({"sampler": "tp"}, "unknown sampler 'tp': did you mean 'tpe'?"),
        ({"set": 5}, "set=5: give a mapping, or a list of texts KEY=VALUE"),
        ({"set": {"resolution": []}}, "set: resolution=[]: the list is empty"),
        ({"workers": ()}, "workers=(): the list is empty"),
        ({"dry_run": True}, "dry_run: there is no study to return: `"),
        ({"submit": "http://h:1"}, "submit: there is no study to return: `"),
        ({"resume": True}, "--resume needs --name"),
    ],
)
def test_a_mistake_is_raised_in_the_words_of_the_command(flags, said, capsys):
    with pytest.raises(ConfigError) as raised:
        config(**flags)
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)
    assert capsys.readouterr() == ("", "")
