"""The candidate that NNCF quantises: what NNCF is given, and what happens without it. NNCF itself is a fake."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from support.tiny import exported

from dpt_deploy.core.errors import MissingExtraError
from dpt_deploy.jobs.bench.candidates import find_candidate
from dpt_deploy.jobs.bench.ceilings import share
from dpt_deploy.measure.timing import Timing
from dpt_deploy.runtime.openvino import OpenVinoRunner

plain_nncf = pytest.importorskip("dpt_deploy.jobs.bench.plain_nncf")
IMAGES = np.zeros((2, 1, 3, 64, 64), np.float32)


@pytest.fixture
def asked(monkeypatch):
    """A fake of NNCF that returns the model as it is; what it was asked for."""
    calls = {}

    def quantize(model, dataset, **options):
        calls.update(dataset=dataset, **options)
        return model

    fake = ModuleType("nncf")
    fake.Dataset, fake.quantize = list, quantize
    fake.ModelType, fake.set_log_level = SimpleNamespace(TRANSFORMER="transformer"), lambda level: None
    monkeypatch.setitem(sys.modules, "nncf", fake)
    return calls


def test_nncf_gets_every_image_and_its_settings_for_transformers(asked, tmp_path):
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(exported("tiny-vit").path.read_bytes())
    path = plain_nncf.quantise_plain(plain, IMAGES)
    assert (asked["model_type"], asked["subset_size"]) == ("transformer", 2)
    assert [image.shape for image in asked["dataset"]] == [(1, 3, 64, 64)] * 2
    with OpenVinoRunner(path) as runner:
        (output,) = runner.infer({"pixel_values": IMAGES[0]}).values()
    assert output.shape == (1, 64, 64)


def test_without_nncf_the_message_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match="'nncf', which is not installed"):
        plain_nncf.quantise_plain(exported("tiny-vit").path, IMAGES)


def test_eight_bits_have_no_share_of_an_fp32_product():
    timing, best = Timing(np.array([2.0])), Timing(np.array([1e-6]))
    shares = {name: share(name, timing, 1000, best, "fp32", "cpu") for name in ("hf-ort", "hf-openvino-nncf")}
    assert shares["hf-openvino-nncf"] is None
    assert shares["hf-ort"] is not None
    assert find_candidate("hf-openvino-nncf").quantised
