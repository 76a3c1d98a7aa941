"""Where the project lies: what a test starts, reads or compares stands below."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
