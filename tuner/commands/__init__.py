"""The commands of `python -m tuner`, one file per command: its flags, and what it runs.

A command parses, calls one function of another room, and prints. It computes nothing itself.
"""
