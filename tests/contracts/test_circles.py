"""No modules import each other in a circle, text such as "dpt_deploy.room.module:name" included.

import-linter sees import statements only. A module that is named as text is imported on demand, and may still import
the module that names it.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.fast

TARGET = re.compile(r"(dpt_deploy(?:\.\w+)+)(?::\w+)?")


def modules_of(package):
    """Modules by dotted name; a package is left out, because its ``__init__`` only names its content."""
    found = {}
    for path in package.rglob("*.py"):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(package.parent).with_suffix("").parts)] = ast.parse(path.read_text())
    return found


def constants_of(tree):
    """Text constants of a module, by name."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def text_of(node, known):
    """Text of a constant or an f-string; a part that is computed is left out with all that follows."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    text = ""
    for part in node.values:
        value = part.value if isinstance(part, ast.Constant) else known.get(getattr(part.value, "id", ""))
        if value is None:
            return text + ("*" if "." in text and ":" not in text else "")
        text += value
    return text


def named(name, tree, modules):
    """Modules that a module names as text. Of ``package.{computed}`` these are all modules of the package."""
    known = {**constants_of(tree), "__package__": name.rpartition(".")[0]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            text = text_of(node, known)
            if text.endswith(".*") and text.startswith("dpt_deploy."):
                yield from (module for module in modules if module.startswith(text[:-1]))
            elif match := TARGET.fullmatch(text.rstrip(":")):
                yield match[1]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def circle(package):
    """Names along one circle of imports, the first one again at the end; empty if there is none."""
    modules = modules_of(package)
    graph = {
        name: ({*imported(tree), *named(name, tree, modules)} & modules.keys()) - {name}
        for name, tree in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return exc.args[1]
    return []


def test_no_modules_import_each_other():
    assert circle(ROOT / "dpt_deploy") == []


@pytest.mark.parametrize(
    "line",
    [
        "from dpt_deploy.room.one import thing",
        "from dpt_deploy.room import one",
        'load_attribute("dpt_deploy.room.one:thing", which="export")',
        'load_attribute(f"{__package__}.one:thing", which="export")',
        'load_attribute(f"{__package__}.one:{name}", which="export")',
        '_ONE = "dpt_deploy.room.one"\nload_attribute(f"{_ONE}:{name}", which="export")',
        '[load_attribute(f"dpt_deploy.room.{target}", which="export") for target in ("one:thing",)]',
        'RECORD = Record(runner="dpt_deploy.room.one:thing")',
    ],
)
def test_a_circle_is_found(tmp_path, line):
    room = tmp_path / "dpt_deploy" / "room"
    room.mkdir(parents=True)
    (room / "one.py").write_text("from dpt_deploy.room.two import other\n")
    (room / "two.py").write_text(f"{line}\n")
    assert set(circle(tmp_path / "dpt_deploy")) == {"dpt_deploy.room.one", "dpt_deploy.room.two"}


def test_text_that_names_no_circle_is_none(tmp_path):
    room = tmp_path / "dpt_deploy" / "room"
    room.mkdir(parents=True)
    (room / "one.py").write_text('"""See dpt_deploy.room.two:thing."""\nname = f"dpt_deploy-{version}"\n')
    (room / "two.py").write_text("from dpt_deploy.room.one import name\n")
    assert circle(tmp_path / "dpt_deploy") == []
