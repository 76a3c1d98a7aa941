"""What reports and MLflow cost, and the pictures of the terminal (docs/service.md)."""
