"""Engines on the GPU that they are built for: the assertions of ``tests/stages/test_trt_runner.py``, and the gate.

Skipped, with the reason, where there is no NVIDIA GPU or no TensorRT; ``--require gpu`` makes that a failure.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from support import engine_checks
from support.faults.calling import fine
from support.tiny import exported

from dpt_deploy.core.artifact import open_artifact
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.runtime.registry import runner_class
from dpt_deploy.workflow.build import build_engine_artifact
from dpt_deploy.workflow.runners import open_runner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.needs("cuda", "torch", "onnxruntime"),
    pytest.mark.skipif(not (find_spec("tensorrt") or find_spec("tensorrt_rtx")), reason="no TensorRT is installed"),
]

SHAPES = [(1, 64, 64), (3, 64, 64), (2, 64, 96), (1, 64, 96)]


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def engine(request, tmp_path_factory):
    model = exported("tiny-vit", precision=request.param)
    out = tmp_path_factory.mktemp(request.param)
    return build_engine_artifact(model.path, out, res=parse_ranges("64,64x96"), batch=3).artifact


@pytest.fixture(scope="module")
def expected():
    """The FP32 graph in ONNX Runtime."""
    model = exported("tiny-vit")
    with open_runner(model.path) as runner:
        yield lambda pixels: runner.infer({"pixel_values": pixels})["predicted_depth"]


def tolerance(engine):
    return engine.sidecar.tolerance.max


def test_every_shape_agrees_in_any_order(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.agree(runner, expected, SHAPES, tolerance(engine))


def test_arrays_belong_to_the_caller(engine):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.arrays_belong_to_the_caller(runner, SHAPES[0])


def test_threads_take_turns(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.threads_take_turns(runner, expected, SHAPES, tolerance(engine))


def test_wrong_feeds_are_refused(engine):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.wrong_feeds_are_refused(runner, (1, 96, 96))


def test_few_contexts_are_kept_and_still_agree(engine, expected):
    record = engine.sidecar.engine
    kind = runner_class("trt")
    with kind(engine.path, library=record.library, profiles=record.profiles, kept_shapes=2) as runner:
        engine_checks.agree(runner, expected, SHAPES, tolerance(engine))


def test_tensors_of_torch_go_in_without_a_copy(engine, expected):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this build of torch has no CUDA")
    pixels = engine_checks.images(*SHAPES[0])
    with open_runner(engine.path, "trt") as runner:
        given = torch.from_numpy(pixels).cuda()
        torch.cuda.synchronize()
        found = runner.infer_device({"pixel_values": given})["predicted_depth"]
        runner.synchronize()
        output = torch.as_tensor(found, device="cuda").cpu().numpy()
    wanted = expected(pixels)
    assert np.abs(output - wanted).max() <= tolerance(engine) * np.ptp(wanted)


def test_the_gate_records_what_was_measured_on_this_gpu(engine, capsys):
    fine(capsys, "verify", engine.path)
    sidecar = open_artifact(engine.path).sidecar
    assert sidecar.parity.verified
    assert "compute capability" in sidecar.parity.processor
    assert sidecar.engine.audit.method == "engine"
    fine(capsys, "verify", engine.path, "--golden")
