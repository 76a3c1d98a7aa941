"""Lean training: what backward does not read is not kept."""

from tinytl.memory_efficient.block_spec import Execution
from tinytl.memory_efficient.convert import ConversionReport, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.structure import register_block

__all__ = [
    "ConversionReport",
    "Execution",
    "make_memory_efficient_",
    "register_block",
    "undo_memory_efficient_",
]
