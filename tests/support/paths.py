"""Folders of the repository, for tests at any depth."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
