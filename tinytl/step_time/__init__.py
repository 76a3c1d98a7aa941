"""The time of a training step, from its operations and from what those need on this machine.

`measure.py` runs steps, `calibration.py` times their operations; nothing else here executes anything.
"""
