"""The flicker of videos on the page."""

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast


def score(whole, each, abs_rel, delta1):
    return {"whole": whole, "each": each, "abs_rel": abs_rel, "delta1": delta1}


MEAN = {
    "plain": score(0.02, 0.016, 0.3, 0.6),
    "stable": score(0.01, 0.009, 0.299, 0.61),
    "frozen": score(0.008, 0.007, 0.4, 0.5),
}
FLICKER = {
    "kind": "flicker",
    "model": "tiny",
    "frames": 16,
    "size": "96x128",
    "environment": {"processor": "a processor", "cores": 2, "gpus": [], "tools": {}},
    "moves": [{"move": "ahead", "mean": MEAN, "scenes": [{}, {}]}],
}


def page(data):
    return render([Result("result.json", data)]).text


def test_flicker_and_accuracy_are_shown_by_camera_move():
    shown = page(FLICKER)
    assert "`tiny` on 2 scenes, 16 frames of 96x128 each. a processor, 2 cores" in shown
    assert "| ahead | 2.00 % | 1.60 % | 1.00 % (0.50 times) | 0.80 % | 0.3000 | 0.2990 | 60.0 % | 61.0 % |" in shown


def test_a_result_without_the_steady_maps_is_named():
    mean = {key: value for key, value in MEAN.items() if key != "stable"}
    with pytest.raises(BadFileError, match="lacks a key of its kind"):
        page({**FLICKER, "moves": [{**FLICKER["moves"][0], "mean": mean}]})
