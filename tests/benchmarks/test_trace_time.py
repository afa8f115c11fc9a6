"""The benchmark of traces: PyTorch decomposes in one of its two ways only, and a wrong graph is not called equal."""

from collections import Counter

import onnx_ir as ir
import pytest
from support.scripts import load_script
from support.tiny import exported, tiny_path
from torch.export import ExportedProgram

pytestmark = pytest.mark.needs("torch", "onnxruntime")

script = load_script("trace_time")


def test_both_ways_lead_to_the_same_numbers(monkeypatch):
    asked, decompose = Counter(), ExportedProgram.run_decompositions

    def counted(program, *args):
        asked[type(program).__name__] += 1
        return decompose(program, *args)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", counted)
    row = script.compared(tiny_path("tiny-conv"), 1)  # and a round that does not count
    assert row["equal"]
    assert row["same_operators"]
    assert asked == {"ExportedProgram": 2}
    assert min(row["seconds"].values()) > 0


def test_other_numbers_are_noticed(monkeypatch):
    paths = {"pytorch": exported("tiny-conv").path, "replaced": exported("tiny-midas").path}
    monkeypatch.setattr(script, "traced", lambda way, _model, _recipe: (ir.load(paths[way]), 1.0))
    assert not script.compared(tiny_path("tiny-conv"), 1)["equal"]
