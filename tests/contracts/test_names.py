"""Names and docstrings of the package: unique class names, small folders, docstrings that begin plainly."""

import ast
from collections import Counter, defaultdict

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.fast

PACKAGE = ROOT / "dpt_deploy"
MAX_FILES = 20
MAX_SHARE = 0.03
OPENINGS = ("What", "Whether", "How", "Where", "Which", "Who", "Of")
# Classes that may share a name, each with the reason.
SAME_NAME = {}


def parsed(package):
    return {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}


def repeated_classes(trees):
    """Top-level class names that occur in more than one module, with these modules."""
    found = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name not in SAME_NAME:
                found[node.name].append(path.name)
    return {name: files for name, files in found.items() if len(files) > 1}


def full_folders(package, most=MAX_FILES):
    """Folders with more than ``most`` Python files."""
    files = Counter(path.parent for path in package.rglob("*.py"))
    return {folder.name: count for folder, count in files.items() if count > most}


def docstrings(trees):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield f"{path.name}: {text.splitlines()[0]}", text.split(maxsplit=1)[0].rstrip(",:")


def indirect(trees):
    """Docstrings that begin with a relative clause, and the share of all docstrings that they are."""
    every = list(docstrings(trees))
    found = [line for line, first in every if first in OPENINGS]
    return found, len(found) / len(every)


@pytest.fixture(scope="module")
def trees():
    return parsed(PACKAGE)


def test_a_class_name_is_unique(trees):
    assert repeated_classes(trees) == {}


def test_no_folder_is_too_full_to_be_read():
    assert full_folders(PACKAGE) == {}


def test_docstrings_begin_with_a_verb_or_a_noun(trees):
    found, share = indirect(trees)
    assert share <= MAX_SHARE, "\n".join(found)


def test_offences_are_noticed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text('"""Whether it is."""\nclass Same:\n    """A class."""\n')
    trees = parsed(tmp_path)
    assert repeated_classes(trees) == {"Same": ["one.py", "two.py"]}
    assert full_folders(tmp_path, most=1) == {tmp_path.name: 2}
    assert indirect(trees) == (["one.py: Whether it is.", "two.py: Whether it is."], 0.5)
