import dataclasses

import pytest

from benchmarks.transfer.comparison import SPARSE_BUDGETS, STORED, variants_of
from tests.support.cases import small
from tinytl.config.names import METHODS, NORMS
from tinytl.memory.predict import predict_memory


def test_every_method_under_every_norm_and_sparse_at_three_budgets() -> None:
    found = variants_of(small())
    for method in set(METHODS) - {"Scratch", "Sparse"}:
        assert {found[f"{method}, {norm}"].norm for norm in NORMS} == set(NORMS)
    sparse = [config for name, config in found.items() if name.startswith("Sparse, frozen_bn")]
    last, as_lite, twice = (
        predict_memory(dataclasses.replace(found[f"{method}, frozen_bn"], plan="smallest")).peak_mib * factor
        for method, factor in (("FT-Last", 1), ("TinyTL-L+B", 1), ("TinyTL-L+B", 2))
    )
    budgets = sorted({config.budget_mib for config in sparse if config.budget_mib is not None})
    assert budgets == pytest.approx([(last + as_lite) / 2, as_lite, twice - last])
    assert len(budgets) == len(SPARSE_BUDGETS) == 3
    for names, stored in STORED.items():
        for words, fields in stored.items():
            for name in names:
                assert fields.items() <= vars(found[f"{name}, {words}"]).items()
