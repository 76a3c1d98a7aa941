"""One trial in a worker process: its epochs, and how its death is understood.

This room runs on every node: it imports no Optuna, no MLflow and no terminal.
"""
