"""The benchmark of loading: its two sessions differ in the plan for buffers, and both are timed and run."""

import json

import onnxruntime
import pytest
from support.scripts import load_script
from support.tiny import exported

pytestmark = pytest.mark.needs("torch", "onnxruntime")

script = load_script("load_time")


def test_the_plan_is_on_in_one_of_the_two(monkeypatch):
    asked = []
    real = onnxruntime.InferenceSession

    def session(path, options, **more):
        asked.append(options.enable_mem_reuse)
        return real(path, options, **more)

    path = exported("tiny-vit").path
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for planned in (True, False):
        runner, seconds = script.opened(path, planned)
        assert seconds > 0
        assert runner.infer(script.inputs_of(runner, 64))
    assert asked == [True, False]


def test_a_child_prints_its_seconds_and_its_peak(capsys):
    script.child(str(exported("tiny-vit").path), "64", "planned")
    seconds, peak = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < seconds < peak
