"""The TensorRT runner's own logic, with fakes of CUDA and TensorRT. On a GPU: ``tests/gpu/test_engine.py``."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.device_arrays import OnDevice
from support.fake_gpu import HOST_CODE, SHAPES, Engine, freed_at_the_end, mean, runner_factory

from dpt_deploy.core.environment import gpus
from dpt_deploy.core.errors import DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.engine.preflight import needed_bytes
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.runtime.cuda import driver as _cuda
from dpt_deploy.runtime.tensorrt import engine as _trt_engine
from dpt_deploy.runtime.tensorrt.runner import SLOTS


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A runner over fakes, and the fakes: ``make(memory_bytes=…)``."""
    with freed_at_the_end():
        yield runner_factory(monkeypatch, tmp_path)


def test_every_shape_agrees_in_any_order(make):
    runner, cuda, _ = make()
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
    assert cuda.launches == 3 * len(SHAPES)  # all but the first run of each were replayed


def test_outputs_may_become_larger_than_the_engine_reports(make, monkeypatch):
    monkeypatch.setattr(Engine, "first_profile_only", True)
    runner, cuda, _ = make()
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)
    assert cuda.held == {}


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


def test_only_a_version_compatible_plan_may_bring_code_for_the_host(make, tmp_path):
    for allowed in (True, False):
        runner, _, _ = make(host_code=allowed)
        (tmp_path / "x.plan").write_bytes(HOST_CODE)
        with nullcontext() if allowed else pytest.raises(IncompatibleError, match="cannot load"), runner:
            engine_checks.agree(runner, mean, SHAPES[:1], 0)


def test_closing_waits_for_who_reads_a_result(make, monkeypatch):
    runner, _, _ = make()
    reading, go = threading.Event(), threading.Event()
    finish = _trt_engine.OpenEngine.finish

    def slow(self, slot, shape):
        reading.set()
        assert go.wait(20)
        return finish(self, slot, shape)

    monkeypatch.setattr(_trt_engine.OpenEngine, "finish", slow)
    with ThreadPoolExecutor(2) as pool:
        runner.__enter__()
        result = pool.submit(runner.infer, {"pixel_values": engine_checks.images(*SHAPES[0])})
        assert reading.wait(20)
        closing = pool.submit(runner.__exit__, None, None, None)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.2)
        go.set()
        assert result.result(timeout=20)["predicted_depth"].shape == (1, 64, 64)
        closing.result(timeout=20)


def test_arrays_belong_to_the_caller(make):
    runner, _, _ = make()
    with runner:
        engine_checks.arrays_belong_to_the_caller(runner, (1, 64, 64))


def test_threads_take_turns(make):
    runner, _, _ = make()
    with runner:
        engine_checks.threads_take_turns(runner, mean, SHAPES, 0)


def test_wrong_inputs_are_refused_and_the_runner_stays_usable(make):
    runner, _, _ = make()
    with runner:
        engine_checks.wrong_inputs_are_refused(runner, (1, 96, 96))
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
    assert (cuda.held, cuda.streams, cuda.graphs, cuda.events) == ({}, set(), {}, {})


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


def test_nothing_is_captured_where_the_library_says_that_it_cannot_be(make):
    runner, cuda, trt = make()
    with runner:
        trt.engines[0].capturable = False
        engine_checks.agree(runner, mean, SHAPES, 0)
    assert cuda.launches == 0


def test_kernels_that_are_compiled_at_run_time_are_compiled_before_a_capture(make):
    runner, _, trt = make(rtx=True)
    with runner:
        engine_checks.agree(runner, mean, SHAPES, 0)
        configs = [context.how for context in trt.engines[0].contexts]
        assert {(each.dynamic_shapes_kernel_specialization_strategy, each.allocation) for each in configs} == {(1, 2)}
        assert len(configs) > 1
        assert len({id(each.cache) for each in configs}) == 1  # what one had compiled the others find
    runner, _, trt = make()
    with runner:
        engine_checks.agree(runner, mean, SHAPES[:1], 0)
        assert trt.engines[0].contexts[0].how == 2


# --- submit and collect -----------------------------------------------------------------------------------------------


def test_overlapping_runs_agree(make):
    runner, cuda, _ = make()
    with runner:
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)
    assert cuda.launches > 0


@pytest.mark.parametrize("missing", ["uploaded", "computed"])
def test_a_stream_that_does_not_wait_is_noticed(make, monkeypatch, missing):
    runner, _, _ = make()
    follow = _cuda.Stream.follow

    def careless(stream, event):
        if event not in {getattr(slot, missing) for slot in runner._opened()._slots}:
            follow(stream, event)

    monkeypatch.setattr(_cuda.Stream, "follow", careless)
    with runner, pytest.raises(AssertionError):
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)


def test_copies_and_runs_are_queued_on_three_streams(make):
    runner, cuda, _ = make()
    with runner:
        ticket = runner.submit({"pixel_values": engine_checks.images(1, 64, 64)})
        assert {handle for handle, queue in cuda.queues.items() if queue} == cuda.streams
        assert len(cuda.streams) == 3
        runner.collect(ticket)
        assert not any(cuda.queues.values())


def test_tickets_are_collected_in_any_order_and_once(make):
    runner, _, _ = make()
    with runner:
        engine_checks.tickets_are_collected_in_any_order_and_once(runner, mean, (2, 64, 64), 0)


def test_threads_submit_and_collect(make):
    runner, _, _ = make()
    with runner:
        engine_checks.threads_submit_and_collect(runner, mean, SHAPES, 0)


def test_a_full_queue_waits_for_another_thread(make):
    runner, _, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    done = threading.Event()

    def other():
        runner.infer({"pixel_values": pixels})
        done.set()

    with runner:
        tickets = [runner.submit({"pixel_values": pixels}) for _ in range(2)]
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        assert not done.wait(0.1)
        runner.collect(tickets[0])
        assert done.wait(10)
        runner.collect(tickets[1])


def test_a_caller_that_waits_gets_an_error_when_the_runner_is_closed(make):
    runner, _, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with ThreadPoolExecutor(1) as pool:
        with runner:
            for _ in range(2):
                runner.submit({"pixel_values": pixels})
            waiting = pool.submit(runner.infer, {"pixel_values": pixels})
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
        with pytest.raises(DptError, match="outside its 'with' block"):
            waiting.result(10)


@pytest.mark.parametrize("fails", ["starts", "contexts_left"])
def test_what_goes_wrong_in_a_run_is_reported_when_it_is_collected(make, fails):
    runner, _, trt = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        setattr(trt.engines[0], fails, 0)
        ticket = runner.submit({"pixel_values": pixels})
        with pytest.raises(ResourceError, match=r"did not start the run|no memory for another context"):
            runner.collect(ticket)
        setattr(trt.engines[0], fails, 1 << 30)
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)


def test_without_memory_for_a_second_run_the_first_is_whole_and_the_runner_usable(make):
    runner, cuda, _ = make()
    pixels = engine_checks.images(1, 64, 64)
    with runner:
        first = runner.submit({"pixel_values": pixels})
        cuda.left, left = 100, cuda.left
        second = runner.submit({"pixel_values": pixels})
        with pytest.raises(ResourceError, match="out of memory"):
            runner.collect(second)
        assert np.array_equal(runner.collect(first)["predicted_depth"], mean(pixels))
        cuda.left = left
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)
    assert (cuda.held, cuda.streams, cuda.events) == ({}, set(), {})


def test_a_wrong_input_is_refused_at_once_and_takes_no_slot(make):
    runner, _, _ = make()
    with runner:
        for _ in range(3):
            with pytest.raises(UsageError, match="does not accept"):
                runner.submit({"pixel_values": np.zeros((1, 3, 64, 64))})
        engine_checks.overlapping_runs_agree(runner, mean, SHAPES, 0)


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


def test_a_lost_gpu_is_reported(make):
    runner, cuda, _ = make()

    def lose():
        with runner:  # what closing it says besides is not shown
            engine_checks.agree(runner, mean, SHAPES[:1], 0)
            cuda.error = 700
            runner.infer({"pixel_values": engine_checks.images(1, 64, 64)})

    with pytest.raises(ResourceError, match="the GPU failed in cudaEventSynchronize: an illegal memory access"):
        lose()


def test_a_sidecar_that_does_not_fit_the_plan_is_reported(make):
    runner, _, _ = make(profiles=lay_out_profiles(parse_ranges("32,32,32x64"), 3))
    with runner, pytest.raises(IncompatibleError, match=r"refuses .* in its profile 64 batch 1"):
        runner.infer({"pixel_values": engine_checks.images(1, 64, 64)})


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_the_real_cuda_runtime_without_a_gpu_is_incompatible():
    with pytest.raises(IncompatibleError, match=r"cudaMalloc: .*driver|device"):
        _cuda.DeviceMemory(16)


def test_predicted_memory_counts_an_input_and_an_output_for_each_further_run_in_flight():
    assert needed_bytes(1, 2, 1 << 20) - needed_bytes(1, 2, 0) == (SLOTS - 1) << 20
