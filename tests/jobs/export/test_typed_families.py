"""Typed files of joint networks, each output held to its own tolerance, and of Swin; planted faults are named."""

from itertools import product

import pytest
from onnx import numpy_helper
from support.faults.precision import enlarge, first_trouble
from support.tiny import altered, copied, exported, tampered, typed

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.verify.references import compare_with_golden
from dpt_deploy.jobs.verify.verify import verify_artifact

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

SIZE = Size(64, 96)
BOTH, FOCUS, SWIN = "tiny-vit-both", "tiny-focus-both", "tiny-swin"
OUTPUTS = {"predicted_depth", "logits"}
OPENVINO = [pytest.param(name, "int8-openvino", marks=pytest.mark.needs("openvino")) for name in (BOTH, FOCUS, SWIN)]
TYPED = [
    *product((BOTH, FOCUS), ("fp16", "bf16", "int8", "int8-cpu")),
    *product((SWIN,), ("int8", "int8-cpu", "fp8")),
    (BOTH, "fp8"),
    *OPENVINO,
]


def verified(artifact, size=SIZE):
    return verify_artifact(artifact.path, res=[size], batch=[1])


def failures(artifact):
    """Names of the outputs that exceed their own tolerances on the stored images, without a search for the cause."""
    return {case.output for case in compare_with_golden(artifact).failures}


@pytest.mark.parametrize(("name", "precision"), TYPED)
def test_every_output_keeps_its_tolerance(name, precision, tmp_path):
    artifact = copied(typed(name, precision), tmp_path)
    assert artifact.sidecar.precision == precision
    comparison = verified(artifact).comparison
    assert comparison.passed
    assert {case.output for case in comparison.cases} == ({"predicted_depth"} if name == SWIN else OUTPUTS)


def spoiled(artifact, folder, prefix):
    """A copy whose activations of one part are cut at a hundredth of their ranges."""

    def spoil(graph):
        steps = [each for each in graph.graph.initializer if each.name.startswith(prefix) and "step" in each.name]
        assert steps
        for tensor in steps:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((values * 0.01).astype(values.dtype), tensor.name))

    return tampered(artifact, folder, spoil)


@pytest.mark.parametrize("precision", ["int8", "int8-cpu", "fp8"])
@pytest.mark.parametrize(("part", "wrong"), [("branches.scores.fusion.", "logits"), ("fusion.", "predicted_depth")])
def test_a_wrong_step_fails_the_output_that_reads_it_and_no_other(part, wrong, precision, tmp_path):
    assert failures(spoiled(typed(BOTH, precision), tmp_path, part)) == {wrong}


def test_an_overflow_is_named(tmp_path):
    part = "encoder.blocks.1.mlp."
    assert first_trouble(tampered(typed(FOCUS, "fp16"), tmp_path, enlarge(part)))[0].startswith(part)


@pytest.mark.parametrize("name", [FOCUS, SWIN])
def test_a_wrong_step_fails_everything_behind_it(name, tmp_path):
    artifact = typed(name, "int8-cpu")
    assert failures(spoiled(artifact, tmp_path, "fusion.")) == {output.name for output in artifact.sidecar.outputs}


@pytest.mark.parametrize(
    ("name", "precision", "weights", "wrong"),
    [
        (BOTH, "fp16", "branches.scores.fusion.2.", {"logits"}),
        (BOTH, "fp32", "fusion.2.", {"predicted_depth"}),
        (FOCUS, "fp16", "joint.scores.", {"logits"}),
        (FOCUS, "fp32", "encoder.blocks.2.mlp.", OUTPUTS),
    ],
)
def test_altered_weights_fail_what_they_reach_and_are_named(name, precision, weights, wrong, tmp_path):
    found = verified(altered(exported(name, precision=precision), tmp_path, weights))
    assert {case.output for case in found.comparison.failures} == wrong
    assert found.divergence.tensor.startswith(weights.removesuffix("."))
