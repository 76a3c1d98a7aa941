"""The memory of a training step: predicted without running it, measured, and by the paper's formula.

Predictions execute nothing; `measure.py` asks the allocator, which is the judge.
"""
