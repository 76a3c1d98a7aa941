"""Gradient checkpointing: parts of a network that recompute their activations in backward.

Works on any module; the lean engine's own recomputation shares `recompute.py`.
"""
