"""The notebooks run from top to bottom in an empty folder, and are committed without results."""

import json
import shlex

import pytest
from support.paths import ROOT
from support.tiny import quick_accuracy

from dpt_deploy.cli import call

matplotlib = pytest.importorskip("matplotlib", reason="the notebooks draw pictures: pip install -e '.[study]'")
matplotlib.use("Agg")

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime", "cv2")
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def code_of(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(cells):
    """Run cells as IPython does: a cell that begins with ``!`` is a command, ``{name}`` in it is a variable."""
    names = {}
    for cell in cells:
        if cell.startswith("!dpt-deploy "):
            assert call(shlex.split(cell.removeprefix("!dpt-deploy ").format(**names))) == 0, cell
        else:
            exec(compile(cell, "notebook", "exec"), names)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, folder):
    with quick_accuracy():
        run_cells(code_of(json.loads(path.read_text())))
    assert list(folder.glob("out/*.onnx"))


@pytest.mark.parametrize("cell", ["!dpt-deploy inspect nothing.onnx", "assert 1 < 0"])
def test_a_cell_that_fails_is_noticed(cell, folder):
    with pytest.raises(AssertionError):
        run_cells([cell])


def test_there_are_three_and_none_has_results():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
