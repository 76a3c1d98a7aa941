"""A study's record: Optuna's storage and the study's folder, written and read in one place.

The only truth about a study. The names of its attributes are in `schema.py`; no other room writes them.
"""
