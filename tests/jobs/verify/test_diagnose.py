"""``dpt-deploy diagnose``: a planted overflow is named, with what must stay FP32; a sound file is found sound."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.faults.calling import complaint
from support.faults.precision import BLOCK, overflow
from support.tiny import exported, tampered
from support.two_outputs import CONFIDENCE, CONFIDENCE_NAME, DEPTH_NAME, two_outputs

from dpt_deploy.artifact.store import open_artifact, sha256_of
from dpt_deploy.cli import call
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import TASKS
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images
from dpt_deploy.jobs.verify.diagnose import diagnose_artifact
from dpt_deploy.jobs.verify.variants import QuantisedVariants


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    return tampered(exported("tiny-vit", precision="fp16"), tmp_path_factory.mktemp("spoiled"), overflow)


def diagnosed(capsys, code, path, *more):
    assert call(["diagnose", str(path), "--res", "64", "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def diagnosis(spoiled):
    """The search for what must stay FP32 opens 180 variants of the graph: once is enough."""
    return diagnose_artifact(spoiled.path, size=Size(64, 64))


@pytest.fixture
def diagnosed_before(diagnosis, monkeypatch):
    def found(path, *, size, allowed):
        assert (path, size, allowed) == (diagnosis.artifact.path, Size(64, 64), None)
        return diagnosis

    monkeypatch.setattr("dpt_deploy.jobs.verify.diagnose.diagnose_artifact", found)


@pytest.mark.usefixtures("diagnosed_before")
def test_a_planted_overflow_is_named_with_what_must_stay_wide(spoiled, capsys):
    before = sha256_of(spoiled.path)
    found = diagnosed(capsys, 5, spoiled.path)
    assert found["max"] is None
    assert found["not_finite"].startswith(f"{BLOCK}.qkv")
    assert found["spare"]
    assert all(name.startswith(BLOCK) for name in found["spare"])
    assert f"{BLOCK}/Attention" in found["spare"]
    assert found["headroom"][0]["times"] < 1
    assert found["headroom"][0]["tensor"].startswith(BLOCK)
    assert sha256_of(spoiled.path) == before


@pytest.mark.usefixtures("diagnosed_before")
def test_it_says_so_to_a_person(spoiled, capsys):
    assert call(["diagnose", str(spoiled.path), "--res", "64"]) == 5
    out, err = capsys.readouterr()
    assert "least headroom at 64" in out
    assert f"{BLOCK}/Attention" in out
    assert f"values are not finite from {BLOCK}.qkv" in " ".join(err.split())


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-metric"])
def test_a_sound_file_is_found_sound(name, capsys):
    found = diagnosed(capsys, 0, exported(name, precision="fp16").path)
    assert (found["not_finite"], found["diverges_at"], found["spare"]) == (None, None, [])
    assert 0 < found["max"] <= found["tolerance"]["max"]
    assert min(each["times"] for each in found["headroom"]) > 8


# --- 8 bits -----------------------------------------------------------------------------------------------------------

PRECISIONS = ("int8", "int8-cpu", "fp8")


def quantised(precision, name="tiny-hybrid"):
    if precision == "int8-cpu":
        engine = exported(name, precision="int8")
        return open_artifact(engine.path.with_name(engine.sidecar.quantisation.twin))
    return exported(name, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sound_quantised_file_is_found_sound_and_its_noise_is_reported(precision, capsys):
    found = diagnosed(capsys, 0, quantised(precision).path)
    assert (found["not_finite"], found["diverges_at"], found["spare"]) == (None, None, [])
    assert 0 < found["max"] <= found["tolerance"]["max"]
    tensors = [each["tensor"] for each in found["noise"]]
    assert set(tensors) <= set(quantised(precision).sidecar.quantisation.clip)
    levels = [each["sqnr"] for each in found["noise"] if each["sqnr"] is not None]
    assert levels == sorted(levels)
    assert 10 < np.median(levels) < 60  # 127 levels a side: 6 dB a bit, less what peaks cost


@pytest.mark.parametrize("precision", PRECISIONS)
def test_with_every_node_spared_nothing_is_left_of_the_rounding_of_activations(precision):
    artifact = quantised(precision)
    inputs = model_inputs(artifact.sidecar, parity_images("int8", 1, Size(64, 64)))
    tolerances = {each.name: each.tolerance for each in artifact.sidecar.outputs}
    with QuantisedVariants(artifact, inputs, tolerances, artifact.sidecar.quantisation) as variants:
        none, some, all_of_it = (variants.error(keep).max for keep in ((), variants.nodes[::2], variants.nodes))
    assert all_of_it < 5e-3 < none
    assert all_of_it <= some


@pytest.mark.parametrize("precision", ["int8", "int8-cpu"])
def test_a_layer_that_is_clipped_too_early_is_named(precision, tmp_path, capsys):
    """A step of a hundredth: the tensor is cut at a hundredth of its range."""
    sound = quantised(precision, "tiny-vit")
    spoilt = "fusion.2.unit.conv1"
    graph = onnx.load(sound.path).graph
    read = next(each for each in graph.node if each.name == f"{spoilt}/Conv").input[0]
    step = next(each for each in graph.node if read in each.output).input[1]

    def spoil(model):
        for tensor in model.graph.initializer:
            if tensor.name == step:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array((values * 0.01).astype(values.dtype), step))

    spoiled = tampered(sound, tmp_path, spoil)
    usual = diagnosed(capsys, 0, sound.path)["max"]
    found = diagnosed(capsys, 5, spoiled.path, "--max", str(1.5 * usual))
    assert found["noise"][0]["tensor"] == read.removesuffix(".restored")
    assert found["spare"]
    assert f"{spoilt}/Conv" in found["spare"]
    assert len(found["spare"]) <= 3


# --- several outputs --------------------------------------------------------------------------------------------------


@pytest.fixture
def confidence(monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)


@pytest.mark.usefixtures("confidence")
def test_two_outputs_are_both_diagnosed(tmp_path, capsys):
    found = diagnosed(capsys, 0, two_outputs(tmp_path, half=True).path)
    assert (found["not_finite"], found["spare"]) == (None, [])
    assert 0 < found["max"] <= found["tolerance"]["max"]


@pytest.mark.usefixtures("confidence")
@pytest.mark.parametrize("wrong", [DEPTH_NAME, CONFIDENCE_NAME])
def test_an_overflow_in_either_output_is_named(wrong, tmp_path, capsys):
    path = two_outputs(tmp_path, half=True, overflows=wrong).path
    found = diagnosed(capsys, 5, path)
    assert found["output"] == wrong
    assert found["not_finite"].startswith(wrong)
    assert found["spare"]
    assert all(name.startswith(wrong) for name in found["spare"])
    assert f"in {wrong}" in complaint_of(capsys, path)


def complaint_of(capsys, path):
    assert call(["diagnose", str(path), "--res", "64"]) == 5
    return " ".join(capsys.readouterr().err.split())


def test_labels_have_no_range(capsys):
    path = exported("tiny-seg", precision="fp16", output_kind="labels").path
    assert "returns labels" in complaint(capsys, 2, "diagnose", path)


def test_what_is_not_of_16_bits_is_refused(capsys):
    assert "no narrow types" in complaint(capsys, 2, "diagnose", exported("tiny-vit").path)


def test_a_size_that_cannot_be_is_refused(capsys):
    assert "legal sizes" in complaint(capsys, 2, "diagnose", exported("tiny-vit", precision="fp16").path, "--res", "65")
