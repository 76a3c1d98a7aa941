import dataclasses

from tinytl.config.names import FIELDS_WITHOUT_MEMORY, LAST_BLOCKS, LITE_METHODS, METHOD_GROUPS, METHODS
from tinytl.config.train_config import LrRatio, TrainConfig


def test_tables_name_existing_things() -> None:
    assert set(FIELDS_WITHOUT_MEMORY) <= {f.name for f in dataclasses.fields(TrainConfig)}
    ratios = {f.name for f in dataclasses.fields(LrRatio)}
    assert {group for groups in METHOD_GROUPS.values() for group in groups} == ratios
    paper = ("FT-Last", "FT-Norm+Last", "FT-Full", "TinyTL-B", "TinyTL-L", "TinyTL-L+B")
    assert METHODS == (*paper, "Last-3", "Last-5", "Sparse", "Scratch")
    assert set(LAST_BLOCKS) < set(METHODS)
    assert set(LITE_METHODS) == {m for m in METHODS if "lite_residual" in METHOD_GROUPS[m]}
