"""Depth Anything in metres, with gated layers, and with an exponential and the sky: files of every kind of number."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import torch
from support.huggingface import photograph
from support.native import cpp_difference
from support.tiny import altered, copied, exported, quick_accuracy, tiny_model, tiny_recipe, typed

from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.verify.verify import verify_artifact
from dpt_deploy.model.checkpoints.load import save_native

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

METRES, SKY, GATED = NAMES = ("tiny-metric-dinov2", "tiny-sky", "tiny-gated")
MAX_AFTER_EXPORT = 1e-4
SIZES = [(1, 14, 28), (2, 42, 56), (3, 98, 84)]
TYPED = [(name, precision) for name in NAMES for precision in ("fp16", "int8", "int8-cpu")]
TYPED += [(SKY, "bf16"), (SKY, "fp8"), (GATED, "fp8"), (METRES, "bf16")]
every_network = pytest.mark.parametrize("name", NAMES)


def computed(path, pixels):
    found = onnxruntime.InferenceSession(path).run(None, {"pixel_values": pixels.numpy()})
    return [torch.from_numpy(each) for each in found]


def expected(model, pixels):
    with torch.inference_mode():
        found = model(pixels)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("size", SIZES, ids=str)
@every_network
def test_the_file_agrees_with_pytorch_at_sizes_that_were_not_traced(name, size):
    pixels = photograph(*size)
    for found, wanted in zip(computed(exported(name).path, pixels), expected(tiny_model(name), pixels), strict=True):
        assert (found - wanted).abs().max() <= MAX_AFTER_EXPORT * (wanted.max() - wanted.min())


def test_the_logarithm_of_the_exponential_agrees_where_depth_is_least():
    pixels = photograph(2, 56, 98)
    found, wanted = (
        each[0].log() for each in (computed(exported(SKY).path, pixels), expected(tiny_model(SKY), pixels))
    )
    assert (found - wanted).abs().max() <= MAX_AFTER_EXPORT * (wanted.max() - wanted.min())


@pytest.mark.parametrize(("name", "precision"), TYPED)
def test_typed_files_keep_their_tolerances_at_other_sizes(name, precision, tmp_path):
    artifact = copied(typed(name, precision), tmp_path)
    assert artifact.sidecar.precision == precision
    comparison = verify_artifact(artifact.path, res=[Size(42, 56)], batch=[2]).comparison
    assert comparison.passed
    assert {case.output for case in comparison.cases} == {output.name for output in artifact.sidecar.outputs}


@pytest.mark.parametrize("precision", ["fp16", "int8-cpu"])
def test_metres_stay_between_zero_and_the_limit_in_every_precision(precision):
    (depth,) = computed(typed(METRES, precision).path, photograph(1, 70, 98))
    assert (depth.min() > 0, depth.max() < 80) == (True, True)
    assert depth.max() - depth.min() > 20


def test_products_of_the_gated_layers_are_quantised():
    quantisation = exported(GATED, precision="int8").sidecar.quantisation
    made = {node.name: node for node in onnx.load(exported(GATED, precision="int8").path).graph.node}
    products = [name for name in made if ".mlp.fc" in name and name.endswith("/MatMul")]
    assert len(products) == 2 * 4
    assert not set(products) & set(quantisation.kept)


@every_network
def test_an_altered_block_is_named(name, tmp_path):
    wrong = altered(exported(name), tmp_path, "encoder.blocks.2.mlp.")
    verification = verify_artifact(wrong.path, res=[Size(42, 56)], batch=[1])
    assert not verification.comparison.passed
    assert verification.divergence.tensor.startswith("encoder.blocks.2")


def far(folder):
    """Weights whose logits reach 12: depths of 160000, two and a half times what FP16 holds."""
    model = copy.deepcopy(tiny_model(SKY))
    last = model.get_submodule(model.landmarks.last)
    with torch.no_grad():
        logits = expected(model, photograph(1, 70, 70))[0].log()
        last.bias += 12.0 - logits.max()
    path = folder / "far.safetensors"
    save_native(model, path)
    return model, path


def test_an_exponential_of_twelve_does_not_overflow_in_16_bits(tmp_path):
    model, weights = far(tmp_path)
    request = ExportRequest(tiny_recipe(SKY), weights=str(weights), precision="fp16", static=Size(70, 70))
    with quick_accuracy():
        artifact = export_model(request, tmp_path / "out").artifact
    assert [name for name in artifact.sidecar.islands if name.endswith("/Exp")]
    assert verify_artifact(artifact.path, batch=[1]).comparison.passed
    pixels = photograph(1, 70, 70)
    found, wanted = computed(artifact.path, pixels)[0], expected(model, pixels)[0]
    assert wanted.max() > 65504
    assert np.isfinite(found.numpy()).all()


@pytest.mark.needs("tensorrt_rtx")
@every_network
def test_it_builds_with_attention_whole(name, tmp_path):
    built = build_engine_artifact(
        exported(name, precision="fp16").path, tmp_path, res=parse_ranges("42x56", stride=14), library="tensorrt_rtx"
    )
    audit = built.artifact.sidecar.engine.audit
    assert audit.attention == {"whole": len(tiny_model(name).encoder.blocks), "decomposable": 0}


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("name", [METRES, GATED])
def test_cpp_gives_the_same_depth(name):
    assert cpp_difference(exported(name).path, skimage.data.coffee()) <= 1e-6
