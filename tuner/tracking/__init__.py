"""MLflow's view of a study, written as the study runs and rebuilt from its record.

MLflow is never read to decide anything: a study without it is whole.
"""
