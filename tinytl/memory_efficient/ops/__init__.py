"""Forward and backward of single operations that keep only what backward reads.

Each file is one operation on tensors; none of them knows a module or a network.
"""
