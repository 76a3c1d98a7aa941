"""The search: Optuna asks, the memory model judges, Ray trains, MLflow records."""
