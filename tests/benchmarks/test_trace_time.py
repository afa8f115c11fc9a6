"""The benchmark of traces: PyTorch decomposes in one of its two ways only, and a wrong graph is not called equal."""

from collections import Counter

import pytest
from support.scripts import load_script
from support.tiny import tiny_model, tiny_path, tiny_recipe
from torch.export import ExportedProgram

pytestmark = pytest.mark.needs("torch", "onnxruntime")

script = load_script("trace_time")


def test_both_ways_lead_to_the_same_numbers(monkeypatch):
    asked, decompose = Counter(), ExportedProgram.run_decompositions

    def counted(program, *args):
        asked[type(program).__name__] += 1
        return decompose(program, *args)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", counted)
    row = script.compared(tiny_path("tiny-conv"), 1)
    assert row["equal"]
    assert row["same_operators"]
    assert asked == {"ExportedProgram": 2}
    assert min(row["seconds"].values()) > 0


def test_other_numbers_are_noticed(monkeypatch, tmp_path):
    recipe = tiny_recipe("tiny-conv")
    found = [
        script.outputs(script.traced("replaced", tiny_model("tiny-conv", seed), recipe)[0], 64, tmp_path)
        for seed in (0, 1)
    ]
    monkeypatch.setattr(script, "outputs", lambda *_: found.pop())
    assert not script.compared(tiny_path("tiny-conv"), 1)["equal"]
