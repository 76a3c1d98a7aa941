"""A study from its checks to its end: what is prepared, run, confirmed and summed up.

This room joins the others: the search, Ray, the record, MLflow and the terminal meet in `run.py`.
"""
