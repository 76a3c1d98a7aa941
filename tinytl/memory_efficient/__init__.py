"""Lean training: what backward does not read is not kept."""

from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.structure import register_block
from tinytl.memory_efficient.convert import ConversionReport, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.lean_recomputed import register_recomputed

__all__ = [
    "ConversionReport",
    "Execution",
    "make_memory_efficient_",
    "register_block",
    "register_recomputed",
    "undo_memory_efficient_",
]
