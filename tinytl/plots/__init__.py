"""Figures of runs, memory and networks, one file per kind, readable in grey and by colour-blind readers.

Functions from numbers to a picture; nothing here trains or predicts.
"""
