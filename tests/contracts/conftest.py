"""The repository, commands run in it, and the wheel built from it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_OURS = ("PYTHON", "COV_", "PYTEST_", "ORT_", "XDG_")  # what a command must not inherit from the test run


@dataclass(frozen=True)
class Done:
    """Results of a finished command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams with line breaks of a narrow terminal undone."""
        return " ".join(f"{self.out} {self.err}".split())


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def python():
    """Run this Python with arguments: ``python("-m", "x", cwd=…, env={…})``. No terminal, no standard input."""

    def run(*arguments, cwd=ROOT, env=None):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory):
    """A copy of what a build reads, so that nothing is written into the repository and nothing old is picked up."""
    copy = tmp_path_factory.mktemp("sources")
    shutil.copytree(ROOT / "dpt_deploy", copy / "dpt_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("export", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "out"))
    (copy / "tests").mkdir()
    (copy / "tests/test_nothing.py").touch()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "THIRD_PARTY.md"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(source_copy, python, tmp_path_factory):
    """The built wheel."""
    pytest.importorskip("build", reason="the module build is not installed: pip install --group dev")
    dist = tmp_path_factory.mktemp("dist")
    built = python("-m", "build", "--wheel", "--no-isolation", "--outdir", dist, cwd=source_copy)
    assert built.code == 0, built.out + built.err
    (path,) = dist.glob("*.whl")
    return path
