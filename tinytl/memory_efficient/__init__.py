"""Lean training: what backward does not read is not kept."""

from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.structure import register_block
from tinytl.memory_efficient.convert import ConversionReport, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.lean_samplewise import register_samplewise

__all__ = [
    "ConversionReport",
    "Execution",
    "make_memory_efficient_",
    "register_block",
    "register_samplewise",
    "undo_memory_efficient_",
]
