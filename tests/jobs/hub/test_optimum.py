"""Optimum's models of ONNX Runtime on folders in the hub's layout; `nox -s optimum` runs this with transformers 4."""

from importlib import import_module

import numpy as np
import pytest
from support.tiny import exported

from dpt_deploy.jobs.hub.repository import write_hub_folder
from dpt_deploy.jobs.verify.golden import read_golden

pytestmark = [pytest.mark.needs("optimum", "torch"), pytest.mark.filterwarnings("ignore")]  # those of transformers
DEPTH, SCORES = "ORTModelForCustomTasks", "ORTModelForSemanticSegmentation"


def answered(name, folder, kind):
    """What the class ``kind`` returns for the golden images, and PyTorch's tensor."""
    torch, optimum = import_module("torch"), import_module("optimum.onnxruntime")
    artifact = exported(name)
    written = write_hub_folder([artifact.path], folder / name)
    model = getattr(optimum, kind).from_pretrained(written, local_files_only=True)
    images, golden = read_golden(artifact.golden_path, artifact.sidecar.outputs)
    (expected,) = golden.values()
    rule = artifact.sidecar.image
    pixels = (images.astype(np.float32) / 255 - np.float32(rule.mean)) / np.float32(rule.std)
    (found,) = model(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).values()
    return np.asarray(found), expected


@pytest.mark.parametrize(
    ("name", "kind"), [("tiny-vit", DEPTH), ("tiny-dinov2", DEPTH), ("tiny-dpt-dinov2", DEPTH), ("tiny-seg", SCORES)]
)
def test_it_returns_pytorch_s_numbers(name, kind, tmp_path):
    found, expected = answered(name, tmp_path, kind)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)
    assert np.abs(found - np.flip(expected, -1)).max() > 1e-2 * np.ptp(expected)  # another map is noticed
