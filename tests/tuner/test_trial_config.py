import dataclasses

import pytest

from search_spaces.space import Parameter, list_spaces, load_space
from search_spaces.values import Choices
from tinytl.config.names import LITE_METHODS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tuner.config import StudyConfig
from tuner.trial_config import (
    base_config,
    check_space,
    largest_configs,
    largest_resolution,
    lite_geometries,
    memory_varies,
    other_lite_ratio,
    parse_settings,
    smallest_configs,
    trial_config,
)


def base_of(name: str, **study) -> TrainConfig:
    return base_config(StudyConfig(space=name, **study), load_space(name))


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_of_the_project_passes_its_check(name):
    check_space(load_space(name), base_of(name))


@pytest.mark.parametrize("name", list_spaces())
def test_memory_varies_in_every_space_but_that_of_learning_rates(name):
    assert memory_varies(load_space(name)) is (name != "separate_lr")


def test_settings_are_typed_as_the_fields_are():
    settings = parse_settings(
        [
            "resolution=96",
            "downsample_ratio=none",
            "batch_size=8,16",
            "lr_ratio.late=0.6",
            "lite_kernel_size=5",
        ]
    )
    assert settings == {
        "resolution": 96,
        "downsample_ratio": None,
        "batch_size": [8, 16],
        "lr_ratio.late": 0.6,
        "kernel_size": 5,
    }
    assert parse_settings(["method=ft-full,bias,deep"]) == {"method": ["FT-Full", "TinyTL-B", "deep"]}
    assert parse_settings(["method=Finetune"]) == {"method": "FT-Full"}
    assert parse_settings(["input_mean=0.5,0.4,0.3"]) == {"input_mean": (0.5, 0.4, 0.3)}


def test_the_base_holds_what_all_trials_share():
    base = base_of("joint", backbone="mobilenet_v2", weights="none", epochs=7, seed=3, input_mean="0.5")
    assert (base.backbone, base.weights, base.epochs, base.seed) == ("mobilenet_v2", "none", 7, 3)
    assert base.input_mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("word", ["budget", "Budget"])
def test_a_plan_of_a_budget_takes_that_of_the_study(word):
    space = load_space("joint").narrowed({"plan": word})
    base = base_config(StudyConfig(space="joint", memory_budget_mib=40.0), space)
    assert (base.plan, base.budget_mib) == ("budget", 40.0)
    check_space(space, base)
    config = trial_config(base, dict(space.fixed) | dict(space.baselines["tinytl_paper"]))
    assert (config.plan, config.budget_mib) == ("budget", 40.0)


def test_a_budget_of_the_space_itself_stays():
    space = load_space("joint").narrowed({"plan": "budget", "budget_mib": 30.0})
    base = base_config(StudyConfig(space="joint", memory_budget_mib=40.0), space)
    config = trial_config(base, dict(space.fixed) | dict(space.baselines["tinytl_paper"]))
    assert (config.plan, config.budget_mib) == ("budget", 30.0)


@pytest.mark.parametrize("name", ["plan", "checkpoint"])
def test_a_fixed_name_that_is_unknown_is_told(name):
    space = load_space("joint").narrowed({name: "al"})
    with pytest.raises(ConfigError, match=f"^unknown {name} 'al'"):
        base_config(StudyConfig(space="joint"), space)


def test_a_sample_becomes_the_config_of_its_trial():
    base = base_of("separate_lr")
    space = load_space("separate_lr")
    config = trial_config(base, dict(space.fixed) | dict(space.baselines["user_report"]))
    assert (config.method, config.norm, config.base_lr) == ("FT-Full", "batch_norm", 3e-4)
    assert (config.lr_ratio.classifier, config.lr_ratio.late, config.lr_ratio.early) == (1.0, 0.6, 0.4)
    assert (config.weight_decay, config.batch_size) == (1e-4, 8)


def test_a_space_may_name_methods_by_their_aliases():
    space = load_space("update_method").narrowed({"method": ["deep", "TinyTL-B"]})
    base = base_config(StudyConfig(), space)
    check_space(space, base)
    config = trial_config(base, {"method": "deep", "norm": "batch_norm"})
    assert (config.method, config.lr_ratio.late, config.lr_ratio.early) == ("FT-Full", 0.6, 0.4)
    base_config(StudyConfig(), load_space("update_method").narrowed({"method": "low"}))


def test_smallest_configs_cover_methods_and_norms_at_the_least_of_the_rest():
    configs = smallest_configs(load_space("joint"), base_of("joint"))
    assert {(c.method, c.norm) for c in configs} == {
        (method, norm)
        for method in ("FT-Last", "FT-Norm+Last", "FT-Full", "TinyTL-B", "TinyTL-L", "TinyTL-L+B", "Sparse")
        for norm in ("batch_norm", "frozen_bn", "group_norm")
    }
    for config in configs:
        assert (config.resolution, config.batch_size) == (32, 8)
        if config.method == "Sparse":  # the images that a choice would read decide little of its memory
            assert (config.update_blocks, config.channel_ratio, config.select) == (2, 0.5, "last")
        if config.method in LITE_METHODS:
            lite = (config.n_groups, config.downsample_ratio, config.expand, config.kernel_size)
            assert lite == (8, None, 0.5, 1)


def test_largest_configs_are_of_the_methods_that_train_most_at_the_most_of_the_rest():
    configs = largest_configs(load_space("joint"), base_of("joint"))
    assert {(c.method, c.norm) for c in configs} == {
        (method, norm)
        for method in ("FT-Full", "TinyTL-L+B")
        for norm in ("batch_norm", "frozen_bn", "group_norm")
    }
    assert [c.method for c in configs[:3]] == ["FT-Full"] * 3
    for config in configs:
        assert (config.resolution, config.batch_size) == (96, 32)
        if config.method in LITE_METHODS:
            lite = (config.n_groups, config.downsample_ratio, config.expand, config.kernel_size)
            assert lite == (1, 1, 2.0, 5)


def test_methods_that_train_less_stay_where_none_trains_more():
    space = load_space("joint").narrowed({"method": ["FT-Last", "TinyTL-B", "TinyTL-L"], "norm": "frozen_bn"})
    assert {c.method for c in largest_configs(space, base_of("joint"))} == {"FT-Last", "TinyTL-B", "TinyTL-L"}


def test_lite_geometries_are_all_groups_and_widths():
    found = lite_geometries(load_space("joint"), base_of("joint"))
    assert {(c.n_groups, c.expand) for c in found} == {(g, e) for g in (1, 2, 4, 8) for e in (0.5, 1.0, 2.0)}
    assert lite_geometries(load_space("separate_lr"), base_of("separate_lr")) == []


def test_the_largest_resolution_is_searched_fixed_or_shared():
    joint = load_space("joint")
    assert largest_resolution(joint, base_of("joint")) == 96
    assert largest_resolution(joint.narrowed({"resolution": [64, 224]}), base_of("joint")) == 224
    assert largest_resolution(joint.narrowed({"resolution": 160}), base_of("joint")) == 160
    assert largest_resolution(load_space("separate_lr"), base_of("separate_lr")) == TrainConfig().resolution


def test_an_unknown_name_in_fixed_values_is_told_as_such():
    space = load_space("joint").narrowed({"norm": "frozen"})
    with pytest.raises(ConfigError, match=r"^unknown norm 'frozen': did you mean 'frozen_bn'"):
        base_config(StudyConfig(), space)


def test_the_most_and_the_least_memory_come_from_how_frozen_weights_are_stored():
    stored = Parameter("frozen_weights", Choices(("bfloat16", "float32", "int8")), when={})
    joint, base = load_space("joint"), base_of("joint")
    space = dataclasses.replace(joint, parameters=(*joint.parameters, stored))
    with pytest.raises(ConfigError, match="FT-Full trains every weight, and they stay float32"):
        check_space(space, base)
    space = space.narrowed({"method": ["FT-Last", "TinyTL-B"]})
    check_space(space, base)
    assert {config.frozen_weights for config in largest_configs(space, base)} == {"float32"}
    assert {config.frozen_weights for config in smallest_configs(space, base)} == {"int8"}


@pytest.mark.parametrize(
    ("name", "settings", "ratio"),
    [
        ("update_method", {}, 16.0),
        ("update_method", {"method": ["FT-Full", "TinyTL-B"]}, None),
        ("update_method", {"optimizer": "sgd"}, None),
        ("joint", {}, None),  # each of its methods with lite residuals has a ratio of the space
        ("sparse", {}, None),
    ],
)
def test_a_ratio_of_lite_residuals_that_some_trial_would_train_with(name, settings, ratio):
    space = load_space(name).narrowed(settings)
    base = base_config(StudyConfig(space=name), space)
    assert other_lite_ratio(space, base, 1.0) == ratio
    assert other_lite_ratio(space, base, None) is None
