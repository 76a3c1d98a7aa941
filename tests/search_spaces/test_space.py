from pathlib import Path

import optuna
import pytest

from search_spaces.space import list_spaces, load_space, parse_space
from search_spaces.values import SpaceError


def space_of(text: str, folder: Path):
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_space(str(path))


def random_trials(n: int):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(n)]


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_the_projects_spaces_are_listed():
    assert list_spaces() == [
        "augmentation",
        "backbones",
        "group_norm",
        "joint",
        "lite_residual",
        "separate_lr",
        "sparse",
        "update_method",
    ]


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_has_a_description_and_a_baseline_tried_first(name):
    space = load_space(name)
    assert space.name == name
    assert space.description
    assert space.baselines
    for point in space.baselines.values():
        assert space.problem(point) is None


@pytest.mark.parametrize("name", list_spaces())
def test_samples_hold_exactly_the_active_parameters(name):
    space = load_space(name)
    for trial in random_trials(50):
        values = space.sample_trial(trial)
        active = {parameter.name for parameter in space.active_parameters(values)}
        assert values.keys() == set(space.fixed) | active
        assert trial.params.keys() == active
        assert space.problem(trial.params) is None


def test_separate_lr_has_the_users_setting_and_one_lr_as_baselines():
    space = load_space("separate_lr")
    assert (space.fixed["method"], space.fixed["norm"]) == ("FT-Full", "batch_norm")
    ratios = {
        name: (space.fixed["lr_ratio.classifier"], point["lr_ratio.late"], point["lr_ratio.early"])
        for name, point in space.baselines.items()
    }
    assert ratios == {"user_report": (1.0, 0.6, 0.4), "one_lr": (1.0, 1.0, 1.0)}
    report = space.baselines["user_report"]
    assert (report["base_lr"], report["weight_decay"], space.fixed["batch_size"]) == (3e-4, 1e-4, 8)


def test_lite_residual_parameters_exist_only_beside_a_lite_residual():
    space = load_space("joint")
    seen = set()
    for trial in random_trials(100):
        values = space.sample_trial(trial)
        has_lite = values["method"] in ("TinyTL-L", "TinyTL-L+B")
        assert ("n_groups" in values) == has_lite
        assert ("channel_ratio" in values) == (values["method"] == "Sparse")
        seen.add(values["method"])
    assert len(seen) == 7


def test_numbers_are_read_as_people_write_them(tmp_path):
    space = space_of(
        "parameters:\n  base_lr: {low: 1e-4, high: 1e-2, log: true}\n"
        "  downsample_ratio: {choices: [2, none]}\n  resolution: {low: 32, high: 96, step: 32}\n",
        tmp_path,
    )
    lr, ratio, resolution = (parameter.distribution for parameter in space.parameters)
    assert (lr.low, lr.high, lr.log) == (1e-4, 1e-2, True)
    assert ratio.choices == (2, None)
    assert isinstance(resolution, optuna.distributions.IntDistribution)
    assert [resolution.low, resolution.high, resolution.step] == [32, 96, 32]


MISTAKES = [
    ("parameters:\n  base_lr: {low: 1e-2, high: 1e-4}\n", "base_lr: low 0.01 is not below high 0.0001"),
    ("parameters:\n  base_lr: {low: 1e-4, hgh: 1e-2}\n", "base_lr: unknown key 'hgh': did you mean 'high'"),
    (
        "parameter:\n  base_lr: {low: 1e-4, high: 1e-2}\n",
        "unknown key 'parameter': did you mean 'parameters'",
    ),
    ("parameters:\n  base_lr: {low: 1e-4}\n", "base_lr: high is missing"),
    ("parameters:\n  base_lr: {low: small, high: 1}\n", "low: 'small' is not a number"),
    ("parameters:\n  base_lr: {low: 0.0, high: 1.0, log: true}\n", "base_lr: low 0.0 with log: true"),
    ("parameters:\n  base_lr: {low: 0.1, high: 1.0, log: true, step: 0.1}\n", "base_lr: step 0.1 with log"),
    ("parameters:\n  base_lr: {low: 0.1, high: .inf}\n", "base_lr: high: inf is not a number"),
    ("parameters:\n  base_lr: {low: 0.1, high: 1.0, step: 0}\n", "base_lr: step 0 is not above 0"),
    ("parameters:\n  base_lr: {low: 0.1, high: 1.0, step: big}\n", "base_lr: step: 'big' is not a number"),
    ("parameters:\n  n_groups: {choices: []}\n", "n_groups: choices must be a list"),
    ("parameters:\n  n_groups: {choices: 2}\n", "n_groups: choices must be a list"),
    ("parameters:\n  resolution: {low: 32, high: 96, step: 48.5}\n", "resolution: "),
    ("parameters:\n  resolution: {low: 32, high: 97, step: 16}\n", "high 97 is not low 32 plus a multiple"),
    ("parameters: {}\n", "no parameters to search"),
    ("- a\n", "expected 'key: value' lines"),
    ("parameters: [\n", "not YAML"),
    ("parameters:\n  seed: {choices: [1]}\n  seed: {choices: [2]}\n", "'seed' is given twice"),
    ("fixed: {norm: frozen_bn}\nparameters:\n  norm: {choices: [batch_norm]}\n", "both fixed and searched"),
    (
        "parameters:\n  n_groups: {choices: [1], when: {method: TinyTL-L}}\n",
        "n_groups: when method: method is neither fixed nor searched above",
    ),
    (
        "parameters:\n  method: {choices: [FT-Last]}\n  n_groups: {choices: [1], when: {method: TinyTL-Z}}\n",
        "n_groups: when method: TinyTL-Z is outside FT-Last",
    ),
    (
        "parameters:\n  base_lr: {low: 1e-4, high: 1e-2}\nbaselines:\n  mine: {base_lr: 1.0}\n",
        "baseline mine: base_lr: 1.0 is outside 0.0001 to 0.01",
    ),
    (
        "parameters:\n  base_lr: {low: 1e-4, high: 1e-2}\nbaselines:\n  mine: {}\n",
        "baseline mine: base_lr is missing",
    ),
    (
        "parameters:\n  base_lr: {low: 1e-4, high: 1e-2}\nbaselines:\n  mine: {base_lr: 1e-3, bse: 1}\n",
        "baseline mine: bse is not searched",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_in_a_file_is_one_line_with_the_place(text, message, tmp_path):
    with pytest.raises(SpaceError) as caught:
        space_of(text, tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "mine.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_baseline_cannot_set_what_does_not_exist_beside_its_other_values():
    content = {
        "parameters": {
            "method": {"choices": ["FT-Last", "TinyTL-L"]},
            "n_groups": {"choices": [1, 2], "when": {"method": "TinyTL-L"}},
        },
        "baselines": {"mine": {"method": "FT-Last", "n_groups": 2}},
    }
    with pytest.raises(SpaceError, match="n_groups does not exist beside its other values"):
        parse_space(content, "mine", "mine.yaml")


@pytest.mark.parametrize(("name", "near"), [("jont", "joint"), ("seperate_lr", "separate_lr")])
def test_an_unknown_space_is_told_with_the_nearest(name, near):
    with pytest.raises(SpaceError, match=f"unknown space '{name}': did you mean '{near}'"):
        load_space(name)


def test_a_file_that_is_no_space_is_called_so(tmp_path):
    (tmp_path / "README.md").write_text("# Words")
    with pytest.raises(SpaceError, match=r"README\.md: not a YAML file of a space"):
        load_space(str(tmp_path / "README.md"))


def test_a_missing_file_is_told():
    with pytest.raises(SpaceError, match=r"--space nowhere\.yaml: no such file"):
        load_space("nowhere.yaml")


class TestNarrowed:
    def test_a_value_fixes_a_parameter_and_the_baselines_follow(self):
        space = load_space("joint").narrowed({"method": "TinyTL-B", "resolution": 224})
        assert (space.fixed["method"], space.fixed["resolution"]) == ("TinyTL-B", 224)
        assert not {"method", "resolution", "n_groups"} & {
            p.name for p in space.active_parameters({"norm": "frozen_bn"})
        }
        assert set(space.baselines) == {"user_report", "tinytl_paper"}
        assert "n_groups" not in space.baselines["tinytl_paper"]

    def test_a_list_leaves_these_choices_and_baselines_take_the_nearest(self):
        space = load_space("joint").narrowed({"resolution": [128, 160, 224]})
        resolution = next(p for p in space.parameters if p.name == "resolution")
        assert resolution.distribution.choices == (128, 160, 224)
        assert {point["resolution"] for point in space.baselines.values()} == {128}

    def test_a_parameter_with_a_condition_keeps_it_when_fixed(self):
        space = load_space("joint").narrowed({"gn_channel_per_group": 4, "lr_ratio.late": 0.6})
        assert set(space.baselines) == {"user_report", "tinytl_paper"}
        for trial in random_trials(40):
            values = space.sample_trial(trial)
            assert values.get("gn_channel_per_group") == (4 if values["norm"] == "group_norm" else None)
            assert values.get("lr_ratio.late") == (
                0.6 if values["method"] in ("FT-Norm+Last", "FT-Full") else None
            )

    def test_names_match_without_regard_to_case(self):
        space = load_space("joint").narrowed({"method": "tinytl-l+b"})
        assert "n_groups" in space.sample_trial(random_trials(1)[0])
        assert "n_groups" in space.baselines["tinytl_paper"]

    def test_a_baseline_that_leaves_the_space_is_dropped(self):
        space = load_space("joint").narrowed({"norm": ["frozen_bn", "group_norm"]})
        assert set(space.baselines) == {"tinytl_paper"}

    def test_choices_for_what_is_not_searched_are_refused(self):
        with pytest.raises(SpaceError, match="separate_lr does not search optimizer"):
            load_space("separate_lr").narrowed({"optimizer": ["adam", "sgd"]})


def test_product_yields_each_active_combination_once():
    space = parse_space(
        {
            "fixed": {"batch_size": 8},
            "parameters": {
                "method": {"choices": ["FT-Last", "TinyTL-L"]},
                "n_groups": {"choices": [1, 2], "when": {"method": "TinyTL-L"}},
            },
        },
        "mine",
        "mine.yaml",
    )
    points = list(space.product(lambda parameter: parameter.distribution.choices))
    assert points == [
        {"batch_size": 8, "method": "FT-Last"},
        {"batch_size": 8, "method": "TinyTL-L", "n_groups": 1},
        {"batch_size": 8, "method": "TinyTL-L", "n_groups": 2},
    ]


def test_describe_reads_as_a_person_would_write():
    described = {p.name: p.describe() for p in load_space("joint").parameters}
    assert described["resolution"] == "32 to 96, step 16"
    assert described["base_lr"] == "0.0001 to 0.01, log scale"
    assert described["downsample_ratio"] == "1, 2, 4, none (where method is TinyTL-L or TinyTL-L+B)"
