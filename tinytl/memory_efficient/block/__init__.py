"""A block of a network as one autograd function, walked in slices of the batch.

`structure.py` finds blocks, `unit.py` plans what is kept, `chain.py` runs them both ways.
"""
