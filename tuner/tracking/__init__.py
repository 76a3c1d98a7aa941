"""MLflow's view of a study, written as the study runs and rebuilt from its record.

Nothing is decided by what MLflow says: a study is whole without it.
"""
