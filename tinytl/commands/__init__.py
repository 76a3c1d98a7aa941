"""The commands of `python -m tinytl`, a file each: flags, and what they run.

A command parses, calls one function of another room, and prints. It computes nothing itself.
"""
