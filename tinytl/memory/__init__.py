"""The memory of a training step: predicted without running it, measured, and by the paper's formula.

Predictions execute nothing; `measure.py` asks the allocator, whose figure is the truth.
"""

from tinytl.moved import names_moved_from

__getattr__ = names_moved_from(__name__)
