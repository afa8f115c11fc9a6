"""A new output format is one record: ``run`` writes every fitting output in it (docs/how-to/new-output-format.md)."""

import numpy as np
import pytest
from support.faults.calling import fine
from support.tiny import exported

from dpt_deploy.cli import call
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.imaging.files import read_image
from dpt_deploy.imaging.formats import FORMATS, OutputFormat
from dpt_deploy.jobs.predict.load import load

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

PHOTOGRAPH = "dpt_deploy/data/photographs/coffee.jpg"
RAW = OutputFormat(
    name="raw",
    suffix=".raw",
    of_classes=False,
    write=lambda path, found, image: atomic_write_bytes(path, found.values.tobytes()),
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(FORMATS, RAW.name, RAW)


def test_run_writes_it(capsys, tmp_path):
    path = exported("tiny-vit").path
    fine(capsys, "run", path, PHOTOGRAPH, "-o", tmp_path / "depth.raw", "--format", "raw")
    with load(path) as predictor:
        depth = predictor(read_image(PHOTOGRAPH)).depth
    np.testing.assert_array_equal(np.fromfile(tmp_path / "depth.raw", np.float32).reshape(depth.shape), depth)


def test_it_is_refused_for_labels(capsys, tmp_path):
    command = ["run", str(exported("tiny-seg").path), PHOTOGRAPH, "-o", str(tmp_path), "--format", "raw"]
    assert call(command) == 2
    assert "format 'raw' does not fit a model that returns scores" in capsys.readouterr().err


def test_a_format_that_nobody_registered_is_refused(capsys, tmp_path):
    command = ["run", str(exported("tiny-vit").path), PHOTOGRAPH, "-o", str(tmp_path), "--format", "poetry"]
    assert call(command) == 2
    printed = capsys.readouterr().err
    assert "unknown format 'poetry'" in printed
    assert "raw" in printed
