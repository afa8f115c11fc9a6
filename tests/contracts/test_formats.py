"""The pictures of output formats in the guide are what the program writes."""

import sys
from importlib import import_module

import cv2
import numpy as np
import pytest
from support.paths import ROOT

pytest.importorskip("matplotlib", reason="the points are drawn: pip install -e '.[study]'")
pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime", "cv2")
FOLDER = ROOT / "docs/how-to/formats"


def difference(one, other):
    """Mean difference of two pictures of one size, as a share of white."""
    first, second = (cv2.imread(str(path)).astype(float) for path in (one, other))
    return np.abs(first - second).mean() / 255 if first.shape == second.shape else 1.0


def test_the_pictures_are_current(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    written = import_module("formats").main(tmp_path)
    del sys.modules["formats"]
    assert {path.name for path in written} == {path.name for path in FOLDER.iterdir()}
    for path in written:
        assert difference(path, FOLDER / path.name) < 0.02, path.name
    assert difference(FOLDER / "png.png", FOLDER / "color.png") > 0.1  # another picture is noticed
