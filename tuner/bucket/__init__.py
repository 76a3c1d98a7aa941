"""Studies in a bucket: objects, local copies of them, claims. Only here is an object read or written.

Imports neither torch, ray, optuna nor mlflow; fsspec only once an address names a bucket.
"""
