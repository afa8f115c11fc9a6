"""Engines on the GPU that they are built for: the runner's assertions on a real device, and the gate.

None of this has run yet. Skipped, with the reason, where there is no NVIDIA GPU or no TensorRT; ``--require gpu`` makes
that a failure.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import engine_checks
from support.faults.calling import fine
from support.reporting import recording
from support.tiny import altered, copied, exported

import dpt_deploy
from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.runtime.predictor import Predictor
from dpt_deploy.runtime.registry import find_runtime

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
    return build_engine_artifact(model.path, out, res=parse_ranges("64,64x96"), batch=3, measure=False).artifact


@pytest.fixture(scope="module")
def expected():
    """The FP32 graph in ONNX Runtime."""
    model = exported("tiny-vit")
    with open_runner(model.path) as runner:
        yield lambda pixels: runner.infer({"pixel_values": pixels})["predicted_depth"]


def tolerance(engine):
    return engine.sidecar.outputs[0].tolerance.max


def test_every_shape_agrees_in_any_order(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.agree(runner, expected, SHAPES, tolerance(engine))


def test_arrays_belong_to_the_caller(engine):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.arrays_belong_to_the_caller(runner, SHAPES[0])


def test_threads_take_turns(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.threads_take_turns(runner, expected, SHAPES, tolerance(engine))


def test_wrong_inputs_are_refused(engine):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.wrong_inputs_are_refused(runner, (1, 96, 96))


def test_few_contexts_are_kept_and_still_agree(engine, expected):
    record = engine.sidecar.engine
    kind = find_runtime("trt").load()
    with kind(engine.path, library=record.library, profiles=record.profiles, kept_shapes=2) as runner:
        engine_checks.agree(runner, expected, SHAPES, tolerance(engine))


def test_overlapping_runs_agree(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.overlapping_runs_agree(runner, expected, SHAPES, tolerance(engine))


def test_tickets_are_collected_in_any_order_and_once(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        check = engine_checks.tickets_are_collected_in_any_order_and_once
        check(runner, expected, SHAPES[1], tolerance(engine))


def test_threads_submit_and_collect(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.threads_submit_and_collect(runner, expected, SHAPES, tolerance(engine))


def test_out_of_memory_of_one_run_leaves_the_runner_usable(engine, expected, torch):
    held = []
    with open_runner(engine.path, "trt") as runner:
        first = runner.submit({"pixel_values": engine_checks.images(*SHAPES[0])})  # takes the one slot that there is
        _fill(torch, held)
        second = runner.submit({"pixel_values": engine_checks.images(*SHAPES[0])})
        try:
            runner.collect(second)
        except ResourceError as exc:
            assert "out of memory" in str(exc)  # noqa: PT017  there may be a remainder that it fits into
        runner.collect(first)
        held.clear()
        torch.cuda.empty_cache()
        engine_checks.overlapping_runs_agree(runner, expected, SHAPES, tolerance(engine))


def _fill(torch, held):
    """Take what there is of the device's memory, in ever smaller pieces."""
    size = 1 << 38
    while size > 256:
        try:
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2


# --- other weights ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def models(request, tmp_path_factory):
    """A model and one of the same graph with other weights, each with its twin in FP32."""
    made = tmp_path_factory.mktemp("altered")
    of_engine, twin = exported("tiny-vit", precision=request.param), exported("tiny-vit")
    others = [altered(model, made / name, "head.conv3") for name, model in (("engine", of_engine), ("twin", twin))]
    return [(of_engine, twin), tuple(others)]


@pytest.mark.parametrize("option", ["strip_weights", "refit"])
def test_a_plan_takes_its_own_weights_and_others_and_computes_with_them(option, models, tmp_path):
    order = {"res": parse_ranges("64"), "batch": 3, "options": EngineOptions(**{option: True})}
    plan = build_engine_artifact(models[0][0].path, tmp_path, **order).artifact
    for model, twin in models:
        done = refit_engine_artifact(plan.path, model.path)
        engine_checks.is_a_finished_refit(done, model)
        with open_runner(twin.path) as reference, open_runner(done.artifact.path, "trt") as runner:
            engine_checks.agree(runner, engine_checks.outputs_of(reference), SHAPES[:2], tolerance(plan))


# --- arrays of other libraries ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("this build of torch has no CUDA")
    return module


def test_tensors_of_torch_go_in_and_come_out_in_the_order_of_its_stream(engine, expected, torch):
    pixels = engine_checks.images(*SHAPES[0])
    with open_runner(engine.path, "trt") as runner:
        for _ in range(4):
            given = torch.from_numpy(pixels).cuda() + 0  # still on its way when it is handed over
            found = runner.infer_device({"pixel_values": given})["predicted_depth"]
            tensor = torch.from_dlpack(found)
            assert tensor.data_ptr() == found.address
            engine_checks.close(tensor.cpu().numpy(), expected(pixels), tolerance(engine))


def test_torch_reads_an_output_by_its_interface(engine, expected, torch):
    pixels = engine_checks.images(*SHAPES[1])
    with open_runner(engine.path, "trt") as runner:
        found = runner.infer_device({"pixel_values": torch.from_numpy(pixels).cuda()})["predicted_depth"]
        runner.synchronize()
        tensor = torch.as_tensor(found, device="cuda")
        assert tensor.data_ptr() == found.address
        engine_checks.close(tensor.cpu().numpy(), expected(pixels), tolerance(engine))


def test_between_the_same_two_tensors_runs_are_replayed(engine, expected, torch):
    with open_runner(engine.path, "trt") as runner:
        given = torch.empty((1, 3, 64, 64), device="cuda")
        out = torch.empty((1, 64, 64), device="cuda")
        for turn in range(4):
            pixels = engine_checks.images(*SHAPES[0], seed=turn)
            given.copy_(torch.from_numpy(pixels))
            assert runner.infer_device({"pixel_values": given}, out=out)["predicted_depth"] is out
            runner.synchronize()
            engine_checks.close(out.cpu().numpy(), expected(pixels), tolerance(engine))


def test_a_predictor_leaves_tensors_on_the_device(engine, expected, torch):
    pixels = engine_checks.images(*SHAPES[0])
    with dpt_deploy.load(engine.path) as predictor:
        found = torch.from_dlpack(predictor.infer({"pixel_values": torch.from_numpy(pixels).cuda()}))
        engine_checks.close(found.cpu().numpy(), expected(pixels), tolerance(engine))


def test_arrays_of_cupy_go_in_and_come_out(engine, expected):
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    pixels = engine_checks.images(*SHAPES[0])
    with open_runner(engine.path, "trt") as runner:
        found = cupy.from_dlpack(runner.infer_device({"pixel_values": cupy.asarray(pixels)})["predicted_depth"])
        engine_checks.close(cupy.asnumpy(found), expected(pixels), tolerance(engine))


@pytest.mark.needs("pycuda")
def test_a_context_a_stream_and_arrays_of_pycuda_work(engine, expected):
    """In a thread of its own, with a context that is not the one other libraries share."""

    def use():
        driver, gpuarray = (import_module(f"pycuda.{name}") for name in ("driver", "gpuarray"))
        driver.init()
        context = driver.Device(0).make_context()
        try:
            stream = driver.Stream()
            record = engine.sidecar.engine
            kind = find_runtime("trt").load()
            options = {"library": record.library, "profiles": record.profiles, "stream": stream.handle}
            pixels = engine_checks.images(*SHAPES[0])
            with kind(engine.path, **options) as runner:
                given = gpuarray.to_gpu(pixels)
                out = gpuarray.empty((1, 64, 64), np.float32)
                runner.infer_device({"pixel_values": given}, out=out)
                stream.synchronize()
                engine_checks.close(out.get(), expected(pixels), tolerance(engine))
        finally:
            context.pop()
            context.detach()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(use).result()


# --- resizing there ---------------------------------------------------------------------------------------------------


def test_images_are_resized_on_the_device_as_on_the_host(engine, torch):
    kind = import_module("dpt_deploy.runtime.tensorrt.predictor").DevicePredictor
    sidecar = replace(engine.sidecar, image=replace(engine.sidecar.image, height=64, width=64, keep_aspect=False))
    with open_runner(engine.path, "trt") as runner:
        engine_checks.device_imaging_agrees(kind, runner, sidecar, tolerance=1e-6)
        with kind(runner, sidecar) as predictor:
            engine_checks.images_come_back_in_order(predictor, Predictor(runner, sidecar), tolerance=1e-6)
            stages = predictor.stages(np.zeros((1080, 1920, 3), np.uint8))
            assert [stage() for stage in stages.values()][-1].shape == (1080, 1920)
    image = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8, device="cuda")
    with dpt_deploy.load(engine.path, device_imaging=True, size=Size(64, 64)) as predictor:
        found = torch.from_dlpack(predictor(image).depth)
        wanted = predictor(image.cpu().numpy()).depth
        assert np.array_equal(found.cpu().numpy(), wanted)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_the_gate_records_what_was_measured_on_this_gpu(engine, capsys):
    fine(capsys, "verify", engine.path)
    sidecar = open_artifact(engine.path).sidecar
    assert sidecar.parity.verified
    assert "compute capability" in sidecar.parity.processor
    assert sidecar.engine.audit.method == "engine"
    engine_checks.times_of_layers_are_reported(sidecar.engine.audit)
    fine(capsys, "verify", engine.path, "--golden")


def test_layers_are_timed_by_the_names_of_the_inspector(engine, expected):
    with open_runner(engine.path, "trt") as runner:
        engine_checks.layers_are_timed_apart(runner, expected, SHAPES, tolerance(engine))


def test_profiles_are_measured(tmp_path):
    options = {"batch": 3, "measure": True}
    model = exported("tiny-vit", precision="fp16").path
    with recording() as reporter:
        record = build_engine_artifact(model, tmp_path, res=parse_ranges("64,64x96"), **options).artifact.sidecar.engine
    engine_checks.profiles_are_measured(record, reporter.lines)


def test_an_engine_is_timed_against_pytorch(engine, capsys, torch):
    copied(exported("tiny-vit", precision=engine.sidecar.precision), engine.path.parent)  # its model, next to it
    names = "trt,trt-device,trt-enqueue-device,torch,torch-device"
    argv = ("bench", engine.path, "--runtime", names, "--res", "64", "--seconds", "0.5", "--no-memory", "--no-photo")
    found = json.loads(fine(capsys, *argv, "--json"))
    assert [row["contender"] for row in found["rows"]] == names.split(",")
    assert all(row["p50_ms"] > 0 for row in found["rows"])


def _resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("turns", "kept"), [(10_000, len(SHAPES)), (100, 2)], ids=["replayed", "contexts come and go"])
def test_memory_does_not_grow_over_mixed_sizes(turns, kept, engine, torch):
    """Memory of device and host. A new context may compile its kernels: if few are kept, every run waits."""
    record = engine.sidecar.engine
    kind = find_runtime("trt").load()
    with kind(engine.path, library=record.library, profiles=record.profiles, kept_shapes=kept) as runner:
        inputs = [{"pixel_values": engine_checks.images(*shape, seed=1)} for shape in SHAPES]
        left, resident = [], []
        for turn in range(turns):
            runner.infer(inputs[turn % len(inputs)])
            if turn + 1 in (turns // 10, turns):
                left.append(torch.cuda.mem_get_info()[0])
                resident.append(_resident_bytes())
    assert left[0] - left[1] < 8 << 20
    assert resident[1] - resident[0] < 32 << 20
