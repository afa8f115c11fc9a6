"""The pages "Add …" show the code that the tests in this folder run, and name these tests."""

import ast
import re

import pytest
from support.paths import ROOT, TESTS

pytestmark = pytest.mark.fast

PAGES = {
    "new-approximate-rewrite": ["contracts/doors/test_new_approximate_rewrite.py"],
    "new-encoder": ["contracts/doors/test_new_encoder.py", "support/new_encoder.py"],
    "new-family": ["contracts/doors/test_new_family.py"],
    "new-output-format": ["contracts/doors/test_new_output_format.py"],
    "new-runtime": ["contracts/doors/test_new_runtime.py", "support/new_runtime.py"],
    "new-task": [
        "contracts/doors/test_new_task_two_outputs.py",
        "contracts/doors/test_new_joint_head.py",
        "support/two_outputs.py",
        "support/joint_head.py",
    ],
}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(page):
    """Statements of the page's Python blocks."""
    for block in BLOCK.findall(page):
        for statement in ast.parse(block).body:
            yield statement.value if isinstance(statement, ast.Expr) else statement


def plain(node):
    """The node as text, without docstrings, decorators, and the members of a class that a page may leave out."""
    node = ast.parse(ast.unparse(node)).body[0]
    for each in ast.walk(node):
        if isinstance(each, ast.ClassDef | ast.FunctionDef):
            each.decorator_list = []
            if ast.get_docstring(each) is not None:
                each.body = each.body[1:] or [ast.Pass()]
    return node


def signature(node):
    """A function without its body, as text."""
    node.body = [ast.Expr(ast.Constant(...))]
    return ast.unparse(node)


def is_shown_truly(wanted, found):
    """Is ``wanted``, of a page, the same code as ``found``? A body of ``...`` stands for any."""
    if type(wanted) is not type(found):
        return False
    if isinstance(wanted, ast.FunctionDef) and ast.unparse(wanted.body[0]) == "...":
        return signature(wanted) == signature(found)
    if isinstance(wanted, ast.ClassDef):
        heads = [(each.name, [ast.unparse(base) for base in each.bases]) for each in (wanted, found)]
        members = all(any(is_shown_truly(part, other) for other in found.body) for part in wanted.body)
        return heads[0] == heads[1] and members
    return ast.unparse(wanted) == ast.unparse(found)


def untrue(page, sources):
    """Statements that the page shows and no source contains."""
    kinds = (ast.stmt, ast.Call)
    known = [plain(node) for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    known = [node.value if isinstance(node, ast.Expr) else node for node in known]
    for statement in map(plain, shown(page)):
        wanted = statement.value if isinstance(statement, ast.Expr) else statement
        if not any(is_shown_truly(wanted, found) for found in known):
            yield ast.unparse(wanted)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_its_tests_run(name):
    page = (ROOT / f"docs/how-to/{name}.md").read_text()
    assert list(untrue(page, [(TESTS / source).read_text() for source in PAGES[name]])) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_its_tests(name):
    page = (ROOT / f"docs/how-to/{name}.md").read_text()
    assert [source for source in PAGES[name] if "test_" in source and source.rpartition("/")[2] not in page] == []


def test_every_such_page_and_every_such_test_is_paired():
    assert {path.stem for path in (ROOT / "docs/how-to").glob("new-*.md")} <= set(PAGES)
    tests = {f"contracts/doors/{path.name}" for path in (TESTS / "contracts/doors").glob("test_new_*.py")}
    assert tests == {source for sources in PAGES.values() for source in sources if "test_" in source}


@pytest.mark.parametrize(
    ("page", "differs"),
    [
        ("x = Record(name='a')", False),
        ("Record(name='a')", False),
        ("Record(name='b')", True),
        ("class Head(Base):\n    def run(self, x): ...", False),
        ("class Head(Base):\n    def run(self, y): ...", True),
        ("class Head(Other):\n    def run(self, x): ...", True),
        ("def make(x):\n    return x + 1", False),
        ("def make(x):\n    return x + 2", True),
    ],
)
def test_what_differs_is_found(page, differs):
    source = (
        "x = Record(name='a')\n"
        "class Head(Base):\n    '''Text.'''\n    last = 1\n    def run(self, x):\n        return x\n"
        "def make(x):\n    '''Text.'''\n    return x + 1\n"
    )
    assert bool(list(untrue(f"```python\n{page}\n```\n", [source]))) is differs
