"""A study's record: Optuna's storage and the study's folder, written and read in one place.

The only truth of a study. Names of attributes stand in `schema.py`; nobody else writes them.
"""
