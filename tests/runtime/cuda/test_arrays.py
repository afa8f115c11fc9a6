"""Arrays of the device and the TensorRT runner, with fakes. On a GPU: ``tests/gpu/test_engine.py``."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.device_arrays import OnDevice
from support.fake_gpu import SHAPES, freed_at_the_end, mean, runner_factory, view

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.runner import on_device
from dpt_deploy.runtime.cuda import arrays as _device_arrays
from dpt_deploy.runtime.cuda.driver import Stream
from dpt_deploy.runtime.predictor import Predictor
from dpt_deploy.runtime.tensorrt import engine as _trt_engine


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A runner over fakes, and the fakes."""
    with freed_at_the_end():
        yield runner_factory(monkeypatch, tmp_path)


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
            runner.synchronize()
            assert np.array_equal(read(found), mean(pixels))


@pytest.mark.parametrize("captured", [True, False], ids=["captured", "enqueued"])
def test_the_bare_call_runs_the_engine_and_nothing_else(captured, make, monkeypatch):
    runner, cuda, _ = make()
    pixels, out = engine_checks.images(1, 64, 64), OnDevice(np.zeros((1, 64, 64), np.float32))
    with runner:
        if not captured:
            monkeypatch.setattr(_trt_engine.OpenEngine, "_capturable", lambda _self, _lane: False)
        call = runner.bare_call({"pixel_values": OnDevice(pixels)}, out)
        runner.synchronize()
        out.values[...] = 0
        launched = cuda.launches
        call()
        runner.synchronize()
        assert np.array_equal(out.values, mean(pixels))
        assert cuda.launches == launched + captured


@pytest.mark.parametrize("captured", [True, False], ids=["captured", "enqueued"])
def test_the_bare_call_keeps_its_arrays(captured, make, monkeypatch):
    """A caller may keep the call alone; a replayed graph would write to memory that was freed."""
    runner, cuda, trt = make()
    with runner:
        if not captured:
            monkeypatch.setattr(_trt_engine.OpenEngine, "_capturable", lambda _self, _lane: False)
        given = runner.to_device(engine_checks.images(1, 64, 64))
        out = runner.infer_device({"pixel_values": given})
        call = runner.bare_call({"pixel_values": given}, out)
        ends = set(trt.engines[0].contexts[-1].addresses.values())
        del given, out
        gc.collect()
        assert ends <= set(cuda.held)
        del call
        gc.collect()
        assert not ends & set(cuda.held)


class FromDlpack:
    """An array of the device that has DLPack alone; its memory is the host's, and so is what it really hands out."""

    def __init__(self, values):
        self.values, self.streams = values, []

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        return Host(self.values.__dlpack__())


class Host:
    """A capsule, as NumPy takes it."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_options):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


def test_dlpack_goes_in_after_what_still_fills_it(make):
    runner, _, _ = make()
    given = FromDlpack(engine_checks.images(2, 64, 96))
    with runner:
        found = runner.infer_device({"pixel_values": given})["predicted_depth"]
        runner.synchronize()
        assert np.array_equal(read(found), mean(given.values))
        assert given.streams == [runner._opened().stream.handle]


@pytest.mark.parametrize("stream", [500, None])
def test_dlpack_comes_out_and_the_readers_stream_waits(make, stream):
    runner, cuda, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        found = runner.infer_device({"pixel_values": OnDevice(pixels)})["predicted_depth"]
        assert found.__dlpack_device__() == (2, 0)
        values = np.from_dlpack(Host(found.__dlpack__(stream=stream, max_version=(1, 0))))
        assert not values.any()
        cuda.drain(stream or 1)  # the reader's own, and no other; by DLPack none named is the legacy default one
        assert np.array_equal(values, mean(pixels))


def test_what_reads_by_dlpack_without_waiting_is_not_ready(make):
    runner, cuda, _ = make()
    with runner:
        found = runner.infer_device({"pixel_values": OnDevice(engine_checks.images(1, 64, 64))})["predicted_depth"]
        values = np.from_dlpack(Host(found.__dlpack__(stream=-1)))
        cuda.drain(1)
        assert not values.any()


def test_between_the_same_two_arrays_runs_are_replayed(make):
    runner, cuda, trt = make()
    source, target = np.empty((1, 3, 64, 64), np.float32), np.empty((1, 64, 64), np.float32)
    with runner:
        held = len(cuda.held)
        for turn in range(4):
            source[...] = engine_checks.images(1, 64, 64, seed=turn)
            given, wanted = OnDevice(source), OnDevice(target)
            assert runner.infer_device({"pixel_values": given}, out=wanted)["predicted_depth"] is wanted
            runner.synchronize()
            assert np.array_equal(target, mean(source))
        assert (cuda.launches, len(cuda.held)) == (3, held)
        assert len(trt.engines[0].contexts) == 1


def test_graphs_of_one_shape_are_bounded(make):
    runner, cuda, _ = make()
    arrays = [np.ones((1, 3, 64, 64), np.float32) for _ in range(12)]
    target = np.empty((1, 64, 64), np.float32)
    with runner:
        for _ in range(2):
            for source in arrays:
                for _ in range(2):
                    runner.infer_device({"pixel_values": OnDevice(source)}, out=OnDevice(target))
        assert 0 < len(cuda.graphs) <= 8


@pytest.mark.parametrize("shape", [(1, 64, 96), (64, 64)])
def test_an_output_that_does_not_fit_is_refused(make, shape):
    runner, _, _ = make()
    given = {"pixel_values": OnDevice(engine_checks.images(1, 64, 64))}
    with runner:
        with pytest.raises(UsageError, match=r"predicted_depth is float32\[1, 64, 64\]; out= is float32"):
            runner.infer_device(given, out=OnDevice(np.empty(shape, np.float32)))
        engine_checks.agree(runner, mean, SHAPES, 0)


def test_an_output_outlives_its_runner(make):
    runner, cuda, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        found = runner.infer_device({"pixel_values": OnDevice(pixels)})["predicted_depth"]
    assert found.__cuda_array_interface__["stream"] is None
    assert np.array_equal(read(found), mean(pixels))
    del found
    gc.collect()
    assert cuda.held == {}


def test_the_real_view_knows_arrays_of_the_host():
    assert not on_device(np.zeros(3))
    found = _device_arrays.StridedMemoryView.from_any_interface(np.zeros((2, 3), np.float32), stream_ptr=-1)
    assert not found.is_device_accessible
    assert _device_arrays._in_order((2, 3), tuple(found.strides))


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.zeros((1, 3, 64, 64), np.float32), "ndarray is not on the device"),
        (OnDevice(np.zeros((1, 3, 64, 64), np.float32), strides=(4, 8, 12, 16)), "not contiguous"),
        (OnDevice(np.zeros((1, 3, 64, 64), np.float16)), "float16"),
        (OnDevice(np.zeros((1, 3, 96, 96), np.float32)), "its profiles"),
    ],
    ids=["host", "strided", "type", "shape"],
)
def test_a_device_array_that_does_not_fit_is_refused(make, value, match):
    runner, _, _ = make()
    with runner, pytest.raises(UsageError, match=match):
        runner.infer_device({"pixel_values": value})


def predictor_over(runner):
    spec = SimpleNamespace(name="predicted_depth")
    image = SimpleNamespace(height=64, width=64)
    shapes = SimpleNamespace(static_size=None)
    return Predictor(
        runner, SimpleNamespace(outputs=[spec], image=image, shapes=shapes, model=SimpleNamespace(stride=32))
    )


def test_a_predictor_leaves_arrays_of_the_device_there(make):
    runner, _, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        predictor = predictor_over(runner)
        found = predictor.infer({"pixel_values": OnDevice(pixels)})
        runner.synchronize()
        assert np.array_equal(read(found), mean(pixels))
        assert np.array_equal(predictor.infer({"pixel_values": pixels}), mean(pixels))
        with pytest.raises(UsageError, match="images are resized on the host"):
            predictor.predict(OnDevice(pixels))


def test_a_runtime_of_the_host_says_that_it_takes_none():
    predictor = predictor_over(SimpleNamespace(name="ort"))
    with pytest.raises(UsageError, match="runtime 'ort' takes host arrays"):
        predictor.infer({"pixel_values": OnDevice(np.zeros((1, 3, 64, 64), np.float32))})


# --- more than one device ---------------------------------------------------------------------------------------------


def test_calls_go_to_the_engines_device_and_back(make):
    runner, cuda, _ = make()
    cuda.device = 1
    with runner:
        cuda.device = 0  # as in another thread
        cuda.switches.clear()
        engine_checks.agree(runner, mean, SHAPES[:1], 0)
        assert cuda.switches[:2] == [1, 0]
        found = runner.infer_device({"pixel_values": OnDevice(engine_checks.images(1, 64, 64), device=1)})
        assert cuda.device == 0
        del found
    assert cuda.switches[-2:] == [1, 0]


def test_an_array_of_another_device_is_refused(make):
    runner, _, _ = make()
    there = OnDevice(engine_checks.images(1, 64, 64), device=3)
    with runner, pytest.raises(UsageError, match="OnDevice is on device 3; the engine runs on device 0"):
        runner.infer_device({"pixel_values": there})


def test_an_array_that_cannot_be_read_is_refused(make, monkeypatch):
    def refuse(*_args, **_options):
        raise BufferError("only version 3 of the interface is supported")

    runner, _, _ = make()
    monkeypatch.setattr(_device_arrays.StridedMemoryView, "from_any_interface", refuse)
    with runner, pytest.raises(UsageError, match="cannot be read: only version 3"):
        runner.infer_device({"pixel_values": OnDevice(engine_checks.images(1, 64, 64))})


def test_an_output_is_waited_for_by_whoever_takes_it_next(make):
    """An array of ours that was written by one run is read by the next, of whatever runner, after that run."""
    runner, _, _ = make()
    first, second = engine_checks.images(1, 64, 64, seed=1), engine_checks.images(1, 64, 64, seed=2)
    with runner:
        out = runner.infer_device({"pixel_values": OnDevice(first)})["predicted_depth"]
        runner.synchronize()
        runner.infer_device({"pixel_values": OnDevice(second)}, out=out)
        other = Stream()
        out.awaited_by(other)
        other.synchronize()  # nobody waited for the runner itself
        assert np.array_equal(read(out), mean(second))
        other.close()


@pytest.mark.parametrize(("shape", "strides", "fits"), [((1, 3, 4), (1, 4, 1), True), ((2, 3), (1, 2), False)], ids=str)
def test_the_stride_of_an_axis_of_one_says_nothing(shape, strides, fits):
    assert _device_arrays._in_order(shape, strides) is fits
