"""Figures of runs, memory and networks, a kind a file, readable in grey and by colour-blind readers.

Functions from figures to a picture; nothing here trains or predicts.
"""
