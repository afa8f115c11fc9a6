"""Engines with two outputs, and arrays by their names, with fakes of CUDA and TensorRT."""

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks, fake_gpu
from support.device_arrays import OnDevice, on_host
from support.fake_gpu import SHAPES, computed, freed_at_the_end, runner_factory

from dpt_deploy.core.errors import BadFileError, UsageError

BOTH = ("predicted_depth", "logits")


@pytest.fixture
def make(monkeypatch, tmp_path):
    def made(outputs=BOTH, **options):
        runner, cuda, trt = runner_factory(monkeypatch, tmp_path)(**options)
        trt.outputs = outputs
        return runner, cuda

    with freed_at_the_end():
        yield made


def agree(found, pixels):
    assert set(found) == set(BOTH)
    for name in BOTH:
        np.testing.assert_array_equal(found[name], computed(name, pixels))


def targets(shape, names=BOTH):
    batch, height, width = shape
    return {name: np.zeros((batch, *fake_gpu.ENDS[name], height, width), np.float32) for name in names}


def test_every_output_of_every_shape_comes_by_its_name(make):
    runner, cuda = make()
    with runner:
        assert [output.name for output in runner.outputs] == list(BOTH)
        for turn in range(4):
            for shape in SHAPES:
                pixels = engine_checks.images(*shape, seed=turn)
                agree(runner.infer({"pixel_values": pixels}), pixels)
    assert cuda.launches == 3 * len(SHAPES)  # all but the first run of each were replayed
    assert cuda.held == {}


def test_overlapping_runs_keep_their_outputs_apart(make):
    runner, _ = make()
    pixels = [engine_checks.images(*SHAPES[0], seed=seed) for seed in (1, 2)]
    with runner:
        tickets = [runner.submit({"pixel_values": each}) for each in pixels]
        for ticket, each in reversed(list(zip(tickets, pixels, strict=True))):
            agree(runner.collect(ticket), each)


def test_new_arrays_of_the_device_come_by_name(make):
    runner, _ = make()
    pixels = engine_checks.images(*SHAPES[0])
    with runner:
        found = runner.infer_device({"pixel_values": OnDevice(pixels)})
        agree({name: on_host(array) for name, array in found.items()}, pixels)


def test_given_arrays_are_filled_in_any_order_and_runs_between_them_replayed(make):
    runner, cuda = make()
    pixels, out = engine_checks.images(*SHAPES[0]), targets(SHAPES[0], BOTH[::-1])
    given = {name: OnDevice(values) for name, values in out.items()}
    with runner:
        for seed in range(4):
            pixels[...] = engine_checks.images(*SHAPES[0], seed=seed)
            found = runner.infer_device({"pixel_values": OnDevice(pixels)}, out=given)
            assert found == given
            runner.synchronize()
            agree(out, pixels)
        assert cuda.launches == 3
        bare = runner.bare_call({"pixel_values": OnDevice(pixels)}, given)
        out["logits"][...] = 0
        bare()
        runner.synchronize()
        agree(out, pixels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: out["predicted_depth"], "out= has predicted_depth; the outputs are predicted_depth, logits"),
        (lambda out: {"logits": out["logits"]}, "out= has logits; the outputs are predicted_depth, logits"),
        (lambda out: {**out, "more": out["logits"]}, "out= has logits, more, predicted_depth; the outputs are"),
        (lambda out: {**out, "logits": out["predicted_depth"]}, r"logits is float32\[1, 2, 64, 64\]; out= is float32"),
    ],
)
def test_arrays_that_do_not_fit_the_outputs_are_refused(make, change, said):
    runner, _ = make()
    pixels = engine_checks.images(*SHAPES[0])
    given = change({name: OnDevice(values) for name, values in targets(SHAPES[0]).items()})
    with runner:
        with pytest.raises(UsageError, match=said):
            runner.infer_device({"pixel_values": OnDevice(pixels)}, out=given)
        agree(runner.infer({"pixel_values": pixels}), pixels)


def test_layers_of_two_outputs_are_timed(make, monkeypatch):
    runner, _ = make()
    with runner:
        runner._open._engine.reported = [("a", 0.5)]
        found = runner.layer_seconds({"pixel_values": engine_checks.images(*SHAPES[0])})
    assert found == pytest.approx({"a": 0.5})


def test_an_engine_without_an_output_is_refused(make):
    runner, cuda = make(outputs=())
    with pytest.raises(BadFileError, match="1 inputs and 0 outputs; expected one input"):
        runner.__enter__()
    assert cuda.held == {}
