"""The project's folder: tests start, read and compare files below it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
