import dataclasses
import json

import pytest

from tests.support.mlflow_studies import prepared_study
from tinytl.runs.checkpoint_file import MAY_DIFFER
from tuner.prepared import PreparedStudy
from tuner.record import schema
from tuner.record.identity import identity_of, network_in_words, networks_of


def of_base(prepared: PreparedStudy, **changes) -> dict:
    return identity_of(dataclasses.replace(prepared, base=dataclasses.replace(prepared.base, **changes)))


def test_it_says_what_is_searched_and_on_what(tmp_path):
    found = identity_of(prepared_study(tmp_path))
    assert found[schema.SPACE] == "separate_lr"
    assert list(found[schema.PARAMETERS]) == [p.name for p in prepared_study(tmp_path).space.parameters]
    assert (found[schema.DATASET], found[schema.CLASSES], found[schema.IMAGES]) == ("digits", 2, 8)
    assert found[schema.EXPERIMENT] == "digits"
    assert identity_of(prepared_study(tmp_path, experiment="mine"))[schema.EXPERIMENT] == "mine"


@pytest.mark.parametrize(
    ("field", "value"), [("base_lr", 0.5), ("seed", 7), ("epochs", 99), ("backbone", "mobilenet_v2")]
)
def test_what_makes_trials_incomparable_is_in_it(field, value, tmp_path):
    prepared = prepared_study(tmp_path)
    before, after = identity_of(prepared), of_base(prepared, **{field: value})
    assert before != after and after[schema.SETTINGS][field] == value


def test_where_a_study_runs_is_not_in_it(tmp_path):
    prepared = prepared_study(tmp_path)
    moved = {"loading": "memory", "loader_workers": 3, "device": "cuda"}
    assert set(moved) < set(MAY_DIFFER)
    assert of_base(prepared, **moved) == identity_of(prepared)
    assert not set(MAY_DIFFER) & set(identity_of(prepared)[schema.SETTINGS])


def test_memory_is_named_as_an_objective_only_if_it_is_searched(tmp_path):
    prepared = prepared_study(tmp_path)
    alone = identity_of(dataclasses.replace(prepared, searches_memory=False))
    assert (alone[schema.OBJECTIVES], identity_of(prepared)[schema.OBJECTIVES]) == (
        "accuracy",
        "accuracy and memory",
    )


def test_a_storage_can_hold_it_and_every_key_is_a_name_of_the_record(tmp_path):
    found = identity_of(prepared_study(tmp_path))
    names = {value for key, value in vars(schema).items() if key.isupper()}
    assert set(found) <= names
    assert json.loads(json.dumps(found)).keys() == found.keys()


def test_the_networks_of_a_study_that_searches_over_them() -> None:
    one = {"backbone": "mobilenet_v2", "parameters": {"method": "FT-Last, TinyTL-B"}}
    assert networks_of(one) == ["mobilenet_v2"] and network_in_words(one) == "mobilenet_v2"
    searched = one | {"parameters": {"backbone": "mobilenet_v2, timm/a (where method is FT-Last)"}}
    assert networks_of(searched) == ["mobilenet_v2", "timm/a"]
    assert network_in_words(searched) == "2 backbones"
    assert networks_of({}) == [] and network_in_words({}) == "unknown network"
