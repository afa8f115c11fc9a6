"""The documentation site builds without a warning, and its generated parts are complete."""

import dataclasses
import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest

import dpt_deploy
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.cli import COMMANDS
from dpt_deploy.core import errors
from dpt_deploy.core.recipe import zoo_names
from dpt_deploy.model.checkpoints.published import published


@pytest.fixture(scope="module")
def generated(root):
    spec = spec_from_file_location("generated", root / "docs/generated.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the generated parts ----------------------------------------------------------------------------------------------


def test_every_command_has_a_section_with_its_options(generated):
    text = generated.commands()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(COMMANDS)
    assert "--calibration" in text


def test_every_network_and_its_weights_are_in_a_table(generated):
    text = generated.models()
    assert {f"| `{name}` |" in text for name in zoo_names()} == {True}
    assert {f"| `{entry.file}` | {entry.licence} |" in text for entry in published()} == {True}


def test_every_error_is_in_the_table(generated):
    names = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert set(re.findall(r"`(\w+Error)` \|", generated.errors())) == names


def test_every_key_of_the_sidecar_is_explained(generated, root):
    keys = {entry.name for entry in dataclasses.fields(Sidecar)}
    rows = re.findall(r"^\| (`.*?) \|", (root / "docs/reference/sidecar.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == keys
    assert keys <= set(re.findall(r"^\| `(\w+)` \|", generated.sidecar(), re.MULTILINE))


def test_every_public_name_is_documented(generated):
    names = {name for name in dpt_deploy.__all__ if not name.startswith("__")}
    assert set(re.findall(r":: dpt_deploy\.(\w+)", generated.python())) == names


def test_links_of_a_shown_file_lead_to_pages_or_files(generated):
    assert generated._link("", "", "changes", "CHANGELOG.md") == "[changes](changelog.md)"
    assert generated._link("", "", "export", "docs/how-to/export.md#x") == "[export](../how-to/export.md#x)"
    assert generated._link("benchmarks", "!", "", "results/a.svg") == "![](../../benchmarks/results/a.svg)"
    assert generated._link("", "", "recipes", "export/README.md") == "`export/README.md`"
    assert generated._link("", "", "x", "https://x.org/") == "[x](https://x.org/)"


def test_pages_that_show_something_else_are_read_in_every_build(generated, root):
    pages = {"index", "reference/commands", "project/changelog"}
    env = SimpleNamespace(found_docs=pages, doc2path=lambda page: root / f"docs/{page}.md")
    assert set(generated.outdated(None, env)) == pages - {"index"}


# --- the site ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def build(root, python, tmp_path):
    """Build the site of a copy of the documents, after ``change`` was applied to it."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install --group docs")

    def run(change=None, builder="html"):
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("docs", "benchmarks", "cpp/include", "cpp/examples"):
            shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*root.glob("*.md"), root / "LICENSE"):
            shutil.copy(path, copy)
        for name in ("dpt_deploy", "tests"):  # the code that pages show or describe
            (copy / name).symlink_to(root / name)
        if change:
            change(copy / "docs")
        return python(
            "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder, copy / "docs", tmp_path / "site", cwd=copy
        )

    return run


@pytest.mark.needs("torch", "onnx")
def test_the_site_builds_without_a_warning(build):
    done = build()
    assert done.code == 0, done.err


@pytest.mark.needs("torch", "onnx")
def test_a_broken_link_and_an_orphan_are_noticed(build):
    def change(docs):
        with (docs / "index.md").open("a") as page:
            page.write("\n[nowhere](how-to/nowhere.md)\n")
        (docs / "orphan.md").write_text("# Orphan\n")

    done = build(change, builder="dummy")  # it resolves all links, and writes no page
    assert done.code != 0
    assert "nowhere" in done.err
    assert "orphan" in done.err
