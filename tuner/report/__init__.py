"""A study as one HTML file that loads nothing.

It shows what a reading of the study says, and computes no result itself.
"""
