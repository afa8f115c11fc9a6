"""``export/`` and ``benchmarks/`` hold recipes that load and short scripts; those in ``export/`` use public names."""

import ast
from pathlib import Path

import pytest

import dpt_deploy
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe, zoo_names

ROOT = Path(__file__).parents[2]
FOLDERS = ("export", "benchmarks")
RECIPES = sorted((ROOT / "export/recipes").rglob("*.toml"))
SCRIPTS = sorted(script for folder in FOLDERS for script in (ROOT / folder).rglob("*.py"))
MAX_LINES = {"export": 80, "benchmarks": 200}
PUBLIC = set(dpt_deploy.__all__)


def private_names(tree):
    """Names that a script takes from the package and that are not public."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dpt_deploy."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dpt_deploy":
            public = PUBLIC if node.module == "dpt_deploy" else set()
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dpt_deploy":
            yield from {f"dpt_deploy.{node.attr}"} - {f"dpt_deploy.{name}" for name in PUBLIC}


def complaints(source, folder="export"):
    """List the faults of a script. Scripts in ``benchmarks/`` measure the package's own modules."""
    tree = ast.parse(source)
    found = ["too long"] if len(source.splitlines()) > MAX_LINES[folder] else []
    found += ["no docstring"] if not ast.get_docstring(tree) else []
    if folder == "benchmarks":
        return found
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    found += [f"not public: {name}" for name in private_names(tree)]
    return found + [f"{name} is for others to import" for name in names if not name.startswith("_") and name != "main"]


@pytest.mark.parametrize("name", [*zoo_names(), *map(str, RECIPES)], ids=lambda name: Path(name).stem)
def test_every_recipe_loads(name):
    recipe = load_recipe(name)
    assert recipe.name == Path(name).stem
    assert recipe.description
    assert recipe.parity["fp32"].max <= 1e-4


def test_a_recipe_that_does_not_load_is_noticed(tmp_path):
    (tmp_path / "bad.toml").write_text('base = "hybrid"\n[model]\nreaduot = "add"\n')
    with pytest.raises(BadFileError, match="readuot"):
        load_recipe(str(tmp_path / "bad.toml"))


def test_there_are_scripts_and_recipes():
    assert len(SCRIPTS) >= 2
    assert len(RECIPES) >= 10


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_a_script_is_short_and_public(script):
    assert complaints(script.read_text(), script.relative_to(ROOT).parts[0]) == []


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ('"""Doc."""\nfrom dpt_deploy.core import spec\n', "not public: dpt_deploy.core.spec"),
        ('"""Doc."""\nimport dpt_deploy.graph.lint\n', "not public: dpt_deploy.graph.lint"),
        ('"""Doc."""\nimport dpt_deploy\ndpt_deploy.jobs.demo\n', "not public: dpt_deploy.jobs"),
        ('"""Doc."""\ndef helper(): ...\n', "helper is for others to import"),
        ('"""Doc."""\n' + "x = 1\n" * MAX_LINES["export"], "too long"),
        ("x = 1\n", "no docstring"),
    ],
    ids=lambda value: value if value.count("\n") == 0 else "",
)
def test_a_wrong_script_is_noticed(source, complaint):
    assert complaints(source) == [complaint]


def test_a_benchmark_may_be_longer_and_import_the_package():
    script = '"""Doc."""\nfrom dpt_deploy.core import spec\n'
    assert complaints(script + "x = 1\n" * 150, "benchmarks") == []
    assert complaints(script + "x = 1\n" * 200, "benchmarks") == ["too long"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folders_are_no_packages(folder):
    assert list((ROOT / folder).rglob("__init__.py")) == []
