"""The TensorRT runner's own logic, over stand-ins for CUDA and TensorRT. On a GPU: ``tests/gpu/test_engine.py``."""

import gc

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="cuda-python is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.fake_gpu import NAME, install, view

from dpt_deploy.core.environment import gpus
from dpt_deploy.core.errors import DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.engine.profiles import plan_profiles
from dpt_deploy.runtime import _cuda
from dpt_deploy.runtime.trt_runner import TrtRunner

PROFILES = plan_profiles(parse_ranges("64,64x96"), 3)
SHAPES = [(1, 64, 64), (3, 64, 64), (2, 64, 96), (1, 64, 96)]


def mean(pixels):
    return pixels.mean(axis=1)


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A runner over stand-ins, and these: ``make(memory_bytes=…)``."""

    def made(kept_shapes=8, stream=None, profiles=PROFILES, **options):
        cuda, trt = install(monkeypatch, profiles, **options)
        path = tmp_path / "x.plan"
        path.write_bytes(b"plan")
        return TrtRunner(path, library=NAME, profiles=PROFILES, kept_shapes=kept_shapes, stream=stream), cuda, trt

    return made


def test_every_shape_agrees_in_any_order(make):
    runner, cuda, _ = make()
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
    assert cuda.launches == 3 * len(SHAPES)  # all but the first run of each were replayed


def test_few_contexts_are_kept_and_still_agree(make):
    runner, cuda, trt = make(kept_shapes=2)
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
        engine_checks.agree(runner, mean, SHAPES[:2], 0)
        assert len(cuda.graphs) <= 2
    assert len(trt.engines[0].contexts) > len(SHAPES)
    assert cuda.graphs == {}


def test_contexts_share_one_scratch_memory_and_take_the_narrowest_profile(make):
    runner, _, trt = make()
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
        contexts = trt.engines[0].contexts
        assert len({context.scratch for context in contexts}) == 1
        assert [context.profile for context in contexts] == [0, 1, 3, 2]


def test_arrays_belong_to_the_caller(make):
    runner, _, _ = make()
    with runner:
        engine_checks.arrays_belong_to_the_caller(runner, (1, 64, 64))


def test_threads_take_turns(make):
    runner, _, _ = make()
    with runner:
        engine_checks.threads_take_turns(runner, mean, SHAPES, 0)


def test_wrong_feeds_are_refused_and_the_runner_stays_usable(make):
    runner, _, _ = make()
    with runner:
        engine_checks.wrong_feeds_are_refused(runner, (1, 96, 96))
        engine_checks.agree(runner, mean, SHAPES[:1], 0)


def test_a_batch_outside_every_profile_names_them(make):
    runner, _, _ = make()
    with runner, pytest.raises(UsageError, match=r"no batch of 4 at 64; its profiles: 64 batch 1; 64 batch 2\.\.3; "):
        runner.infer({"pixel_values": engine_checks.images(4, 64, 64)})


def test_everything_is_given_back(make):
    runner, cuda, _ = make()
    for _ in range(3):
        with runner:
            engine_checks.agree(runner, mean, SHAPES, 0)
            assert cuda.held
    assert (cuda.held, cuda.streams, cuda.graphs) == ({}, set(), {})


def test_a_closed_runner_says_so(make):
    runner, _, _ = make()
    with runner:
        pass
    with pytest.raises(DptError, match="outside its 'with' block"):
        runner.infer({"pixel_values": engine_checks.images(1, 64, 64)})


def test_the_callers_stream_is_used_and_left_alone(make):
    runner, cuda, _ = make(stream=77)
    cuda.streams.add(77)
    with runner:
        engine_checks.agree(runner, mean, SHAPES[:1], 0)
    assert cuda.streams == {77}


def test_nothing_is_captured_on_the_default_stream(make):
    runner, cuda, _ = make(stream=0)
    with runner:
        engine_checks.agree(runner, mean, SHAPES[:1], 0)
    assert cuda.launches == 0


# --- arrays on the device ---------------------------------------------------------------------------------------------


class OnDevice:
    """What torch, CuPy and pycuda show of an array; the stand-in's device memory is this process's."""

    def __init__(self, values, **changes):
        self.values, self.changes = values, changes

    @property
    def __cuda_array_interface__(self):
        return {**self.values.__array_interface__, "strides": None, **self.changes}


def read(array):
    return view(array.__cuda_array_interface__["data"][0], array.shape)


def test_device_arrays_go_in_and_out_without_a_copy(make):
    runner, cuda, trt = make()
    pixels = engine_checks.images(2, 64, 96)
    with runner:
        found = runner.infer_device({"pixel_values": OnDevice(pixels)})["predicted_depth"]
        runner.synchronize()
        assert np.array_equal(read(found), mean(pixels))
        assert trt.engines[0].contexts[0].addresses["pixel_values"] == pixels.ctypes.data
        assert found.__cuda_array_interface__["typestr"] == "<f4"
        assert found.__cuda_array_interface__["stream"] == runner._opened().stream.handle
        held = len(cuda.held)
        del found
        gc.collect()
        assert len(cuda.held) == held - 1


def test_host_and_device_runs_may_alternate(make):
    runner, _, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        for _ in range(3):
            engine_checks.agree(runner, mean, SHAPES[:1], 0)
            found = runner.infer_device({"pixel_values": OnDevice(pixels)})["predicted_depth"]
            assert np.array_equal(read(found), mean(pixels))


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.zeros((1, 3, 64, 64), np.float32), "ndarray is not on the device"),
        (OnDevice(np.zeros((1, 3, 64, 64), np.float32), strides=(1, 2, 3, 4)), "not contiguous"),
        (OnDevice(np.zeros((1, 3, 64, 64), np.float16)), "float16"),
        (OnDevice(np.zeros((1, 3, 96, 96), np.float32)), "its profiles"),
    ],
    ids=["host", "strided", "type", "shape"],
)
def test_a_device_array_that_does_not_fit_is_refused(make, value, match):
    runner, _, _ = make()
    with runner, pytest.raises(UsageError, match=match):
        runner.infer_device({"pixel_values": value})


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_out_of_device_memory_is_clear_and_leaves_nothing(make):
    runner, cuda, _ = make(memory_bytes=200_000)
    with pytest.raises(ResourceError, match="out of memory"), runner:
        pass
    assert (cuda.held, cuda.streams) == ({}, set())


def test_out_of_memory_of_one_run_leaves_the_runner_usable(make):
    runner, cuda, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        cuda.left, left = 100, cuda.left
        with pytest.raises(ResourceError, match="out of memory"):
            runner.infer_device({"pixel_values": OnDevice(pixels)})
        cuda.left = left
        engine_checks.agree(runner, mean, SHAPES, 0)


def test_a_plan_that_the_library_cannot_load_is_incompatible(make):
    runner, cuda, _ = make(loads=False)
    with pytest.raises(IncompatibleError, match=r"fake_tensorrt 11\.4\.0 cannot load x\.plan on this GPU"), runner:
        pass
    assert cuda.streams == set()


def test_without_a_driver_it_is_incompatible(make):
    runner, _, _ = make(error=35)
    with pytest.raises(IncompatibleError, match="insufficient driver"), runner:
        pass


def test_a_lost_gpu_is_told(make):
    runner, cuda, _ = make()

    def lose():
        with runner:  # what closing it says besides is not shown
            engine_checks.agree(runner, mean, SHAPES[:1], 0)
            cuda.error = 700
            runner.infer({"pixel_values": engine_checks.images(1, 64, 64)})

    with pytest.raises(ResourceError, match="the GPU failed in cudaStreamSynchronize: an illegal memory access"):
        lose()


def test_a_sidecar_that_does_not_fit_the_plan_is_told(make):
    runner, _, _ = make(profiles=plan_profiles(parse_ranges("32,32,32x64"), 3))
    with runner, pytest.raises(IncompatibleError, match=r"refuses .* in its profile 64 batch 1"):
        runner.infer({"pixel_values": engine_checks.images(1, 64, 64)})


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_the_real_cuda_runtime_without_a_gpu_is_incompatible():
    with pytest.raises(IncompatibleError, match=r"cudaMalloc: .*driver|device"):
        _cuda.Memory(16)
