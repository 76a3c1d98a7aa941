"""A study's front and rungs as pictures: PNG files, and figures with hover.

Functions from results to a picture; what a picture means is said by who shows it.
"""
