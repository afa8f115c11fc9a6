"""Nothing of the machine it was made on is in the repository, nothing unfinished, and no file too long to know."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Assembled, so that this file does not find itself.
PATHS = re.compile("|".join(["/" + "root/", "/" + "work/", "/" + "tmp/" + r"w\b", "/" + r"home/\w", "/" + r"Users/\w"]))
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]))
LARGEST_BYTES = 2_000_000
WEIGHTS = "dpt_deploy/data/weights/"  # of the models that ship
LARGEST_WEIGHTS = 6_000_000
SOURCES = (".py", ".cpp", ".hpp", ".h", ".cu")
MOST_LINES = 500


def complaints(name, data):
    """List the faults of one file, by its name and content."""
    largest = LARGEST_WEIGHTS if name.startswith(WEIGHTS) else LARGEST_BYTES
    found = [f"{name}: {len(data)} bytes"] if len(data) > largest else []
    if b"\0" in data:
        return found
    lines = data.decode().splitlines()
    found += [f"{name}: {len(lines)} lines"] if name.endswith(SOURCES) and len(lines) > MOST_LINES else []
    for number, line in enumerate(lines, 1):
        for pattern in (PATHS, UNFINISHED):
            found += [f"{name}:{number}: {match[0]}" for match in pattern.finditer(line)]
    return found


@pytest.mark.needs("git")
def test_tracked_files_are_clean():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is not known")
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert len(files) > 50
    assert [entry for path in files for entry in complaints(str(path.relative_to(ROOT)), path.read_bytes())] == []


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"fine\nsee /" + b"work/main\n", "x:2: /" + "work/"),
        (b"TO" + b"DO later", "x:1: TO" + "DO"),
        (b"\0" * (LARGEST_BYTES + 1), f"x: {LARGEST_BYTES + 1} bytes"),
    ],
    ids=["path", "unfinished", "size"],
)
def test_what_does_not_belong_is_noticed(data, complaint):
    assert complaints("x", data) == [complaint]


@pytest.mark.parametrize(("name", "found"), [("x.py", ["x.py: 501 lines"]), ("x.csv", [])])
def test_a_source_that_is_too_long_is_noticed(name, found):
    assert complaints(name, b"x\n" * (MOST_LINES + 1)) == found
