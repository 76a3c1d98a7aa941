"""The commands of `python -m tinytl`, one file each: flags, and the call that they make.

A command parses, calls one function of another room, and prints. It computes nothing itself.
"""
