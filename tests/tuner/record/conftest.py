"""Runs to read."""

from tests.support.run_folders import make_run

__all__ = ["make_run"]
