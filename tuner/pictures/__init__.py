"""A study's front and rungs as pictures: PNG files, and figures with hover.

Functions from results to a picture. The caller says what the picture means.
"""
