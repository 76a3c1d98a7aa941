"""Runs to draw."""

from tests.tinytl.run_folders import make_run

__all__ = ["make_run"]
