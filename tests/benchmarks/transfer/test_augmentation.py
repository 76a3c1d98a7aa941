import dataclasses

from benchmarks.transfer.augmentation import KNOBS, PREDICTED, variants_of
from tests.support.cases import small


def test_each_knob_alone_and_all_of_them_at_the_epochs_of_the_name() -> None:
    found = variants_of(small(epochs=5))
    none = found["none, 5 epochs"]
    assert none == small(epochs=5, method="TinyTL-L+B", norm="frozen_bn")
    for name, fields in KNOBS.items():
        assert found[f"{name}, 5 epochs"] == dataclasses.replace(none, **fields)
    for fields in KNOBS.values():
        assert fields.items() <= vars(found["all, 5 epochs"]).items()
    assert not found.keys() & variants_of(small(epochs=20)).keys()


def test_every_variant_has_its_prediction() -> None:
    for epochs in (5, 20):
        said = PREDICTED["top-1 against none, points"][f"{epochs} epochs"]  # type: ignore[index]
        assert {f"{name}, {epochs} epochs" for name in said} == {
            name for name in variants_of(small(epochs=epochs)) if not name.startswith("none")
        }
