"""The survey of tools: what a tool gives is compared, and a failure leaves the line that names it."""

import json
import sys

import numpy as np
import pytest
from support.paths import ROOT
from support.scripts import load_script
from support.tiny import copied, exported

pytestmark = pytest.mark.needs("torch", "onnxruntime")


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds its neighbours
    try:
        return load_script("third_party")
    finally:
        sys.path.pop(0)


def test_a_graph_that_a_tool_writes_is_computed(tools):
    copies = (sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])", "FILE", "FOLDER/out.onnx")
    row = tools.clients.compared(tools.calls(tools.rewritten, *copies), exported("tiny-vit").path)
    assert row["verdict"] == "right", row


def test_the_reference_evaluator_is_right(tools):
    assert tools.clients.compared(tools.reference, exported("tiny-vit").path)["verdict"] == "right"


def test_a_command_without_output_works_or_fails(tools):
    path = exported("tiny-vit").path
    fine = tools.calls(tools.shown, sys.executable, "-c", "import sys; assert '[2,3,96,128]' in sys.argv[1]", "SHAPE")
    assert tools.tried(fine, path)["verdict"] == "works"
    fails = tools.calls(tools.shown, sys.executable, "-c", "import sys; open(sys.argv[1] + '.gone')", "FILE")
    row = tools.tried(fails, path)
    assert row["verdict"] == "fails"
    assert row["message"] == "FileNotFoundError: [Errno 2] No such file or directory: 'tiny-vit-fp32.onnx.gone'"


def test_colours_and_notes_are_no_messages(tools, tmp_path):
    text = "[I] reading\n\x1b[31m[E] no kernel for Shape\x1b[0m\n[W] a note\n"
    assert tools.last_line(text, tmp_path / "a.onnx", str(tmp_path)) == "[E] no kernel for Shape"


def test_rows_of_a_tool_are_replaced_and_others_stay(tools, tmp_path, monkeypatch):
    wrong = ("call it", lambda *_: np.zeros((2, 96, 128)), "numpy")
    monkeypatch.setattr(tools, "TOOLS", {"a": wrong, "b": wrong})
    artifact, target = copied(exported("tiny-vit"), tmp_path / "files"), tmp_path / "result.json"
    for names in (("b", "a"), ("a",)):
        tools.main(target, artifact.path.parent, *names)
    done = json.loads(target.read_text())
    assert done["kind"] == "third-party"
    assert [(row["tool"], row["verdict"]) for row in done["rows"]] == [("a", "wrong"), ("b", "wrong")]
