"""Back ends of the C++ library for ONNX files: ONNX Runtime and OpenVINO, each against the same library in Python."""

import numpy as np
import pytest
import skimage.data
from support.native import native_build
from support.tiny import exported, tampered

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import BadFileError, IncompatibleError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.measure.metrics import range_error
from dpt_deploy.runtime.native.runner import NativeRunner

pytestmark = [pytest.mark.needs("compiler"), pytest.mark.needs("openvino")]

MAX_OF_RANGE = 1e-6  # the same network in the same library
BACKENDS = {"onnxruntime": "ort", "openvino": "openvino"}
PHOTOGRAPH = skimage.data.coffee()


@pytest.fixture(autouse=True)
def _built():
    native_build()


def mapped(artifact, backend):
    """The map of the photograph, entirely in C++."""
    with NativeRunner(artifact.path, artifact.sidecar, backend=backend) as runner:
        (values,) = runner.predict(PHOTOGRAPH).values()
        return values


def expected(artifact, backend):
    with load(artifact, runtime=BACKENDS[backend]) as predictor:
        return predictor(PHOTOGRAPH).depth


@pytest.mark.parametrize("options", [{}, {"input_kind": "uint8"}, {"static": Size(64, 96)}], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_depth_is_that_of_the_same_library_in_python(backend, options):
    artifact = exported("tiny-vit", **options)
    assert range_error(mapped(artifact, backend), expected(artifact, backend))[0] <= MAX_OF_RANGE


@pytest.mark.parametrize("backend", BACKENDS)
def test_eight_bits_are_those_of_the_same_library_in_python(backend):
    engine = exported("tiny-vit", precision="int8")
    artifact = open_artifact(engine.path.with_name(engine.sidecar.quantisation.twin))
    found = mapped(artifact, backend)
    assert range_error(found, expected(artifact, backend))[0] <= MAX_OF_RANGE
    assert range_error(found, mapped(exported("tiny-vit"), backend))[0] > MAX_OF_RANGE  # it is not FP32
    with (
        pytest.raises(IncompatibleError, match="runs fp32, int8-cpu and int8-openvino"),
        NativeRunner(engine.path, engine.sidecar, backend="openvino"),
    ):
        pass


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_model_takes_any_batch_and_size_in_turn(backend):
    artifact, rng = exported("tiny-vit"), np.random.default_rng(0)
    with NativeRunner(artifact.path, artifact.sidecar, backend=backend) as runner, load(artifact) as predictor:
        for shape in ((1, 3, 64, 64), (3, 3, 64, 96), (1, 3, 64, 64), (2, 3, 128, 32)):
            inputs = {"pixel_values": rng.standard_normal(shape).astype(np.float32)}
            found = runner.infer(inputs)["predicted_depth"]
            assert range_error(found, predictor.infer(inputs))[0] <= 1e-5
            assert range_error(found, predictor.infer({"pixel_values": inputs["pixel_values"] * 0.9}))[0] > 1e-4


@pytest.mark.parametrize("static", [None, Size(64, 96)], ids=["any size", "one size"])
def test_openvino_computes_hybrids_at_every_size_without_the_kernels_that_crash(static):
    artifact, rng = exported("tiny-hybrid", static=static), np.random.default_rng(0)
    sizes = [(64, 96), (96, 64), (128, 32)] if static is None else [(64, 96)]
    with NativeRunner(artifact.path, artifact.sidecar, backend="openvino") as runner, load(artifact) as predictor:
        for size in sizes:
            inputs = {"pixel_values": rng.standard_normal((1, 3, *size)).astype(np.float32)}
            assert range_error(runner.infer(inputs)["predicted_depth"], predictor.infer(inputs))[0] <= 1e-4


def test_openvino_computes_a_hybrid_of_8_bits_as_in_python():
    artifact, rng = exported("tiny-hybrid", precision="int8-openvino"), np.random.default_rng(0)
    with (
        NativeRunner(artifact.path, artifact.sidecar, backend="openvino") as runner,
        open_runner(artifact, "openvino") as python,
    ):
        for size in ((64, 96), (96, 64)):  # those that get a graph of their own
            inputs = {"pixel_values": rng.standard_normal((1, 3, *size)).astype(np.float32)}
            found, expected = (each.infer(inputs)["predicted_depth"] for each in (runner, python))
            assert range_error(found, expected)[0] <= 1e-4
            other = python.infer({"pixel_values": inputs["pixel_values"] * 0.9})["predicted_depth"]
            assert range_error(found, other)[0] > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_that_does_not_fit_is_refused(backend):
    artifact = exported("tiny-vit", static=Size(64, 96))
    inputs = {"pixel_values": np.zeros((1, 3, 96, 64), np.float32)}
    with NativeRunner(artifact.path, artifact.sidecar, backend=backend) as runner, pytest.raises(UsageError):
        runner.infer(inputs)


def test_openvino_refuses_an_operator_that_it_does_not_know(tmp_path):
    def rename(model):
        model.graph.node[0].op_type = "Unknown"

    artifact = tampered(exported("tiny-vit"), tmp_path, rename)
    with (
        pytest.raises(BadFileError, match=r"OpenVINO .* cannot load"),
        NativeRunner(artifact.path, artifact.sidecar, backend="openvino"),
    ):
        pass
