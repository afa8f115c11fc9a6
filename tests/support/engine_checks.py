"""Assertions about any runner of an engine: used with a fake, and on a GPU if there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.runtime.predictor import Predictor


def images(batch, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, 3, height, width)).astype(np.float32)


def outputs_of(runner):
    """Output of another runner, as a function of the pixels."""
    name, output = runner.inputs[0].name, runner.outputs[0].name
    return lambda pixels: runner.infer({name: pixels})[output]


def agree(runner, expected, shapes, tolerance):
    """Every shape, in turns and again: first run, captured run, replayed run, and after a change of profile."""
    name, output = runner.inputs[0].name, runner.outputs[0].name
    for turn in range(4):
        for shape in shapes:
            pixels = images(*shape, seed=turn)
            found = runner.infer({name: pixels})[output]
            wanted = expected(pixels)
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= tolerance * max(np.ptp(wanted), 1e-6)


def arrays_belong_to_the_caller(runner, shape):
    name, output = runner.inputs[0].name, runner.outputs[0].name
    first = runner.infer({name: images(*shape, seed=1)})[output]
    kept = first.copy()
    runner.infer({name: images(*shape, seed=2)})
    assert np.array_equal(first, kept)


def threads_take_turns(runner, expected, shapes, tolerance):
    name, output = runner.inputs[0].name, runner.outputs[0].name

    def one(index):
        pixels = images(*shapes[index % len(shapes)], seed=index)
        wanted = expected(pixels)
        return np.abs(runner.infer({name: pixels})[output] - wanted).max() <= tolerance * np.ptp(wanted)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(24)))


def overlapping_runs_agree(runner, expected, shapes, tolerance):
    """Two runs on their way at once, of every pair of shapes, whose inputs are written over as soon as they are in."""
    name, output = runner.inputs[0].name, runner.outputs[0].name
    for turn in range(4):
        before = None
        for index, shape in enumerate([*shapes, *reversed(shapes)]):
            pixels = images(*shape, seed=10 * turn + index)
            wanted = expected(pixels)
            ticket = runner.submit({name: pixels})
            pixels[...] = np.nan
            if before is not None:
                close(runner.collect(before[0])[output], before[1], tolerance)
            before = ticket, wanted
        close(runner.collect()[output], before[1], tolerance)


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * max(np.ptp(wanted), 1e-6)


def tickets_are_collected_in_any_order_and_once(runner, expected, shape, tolerance):
    name, output = runner.inputs[0].name, runner.outputs[0].name
    first, second = images(*shape, seed=1), images(*shape, seed=2)
    one, two = runner.submit({name: first}), runner.submit({name: second})
    with pytest.raises(UsageError, match="2 runs are queued"):
        runner.submit({name: first})
    close(runner.collect(two)[output], expected(second), tolerance)
    close(runner.collect()[output], expected(first), tolerance)  # that which was submitted first of those left
    for ticket in (one, two, None):
        with pytest.raises(UsageError, match="no such run to collect"):
            runner.collect(ticket)


def threads_submit_and_collect(runner, expected, shapes, tolerance):
    """Two runs a thread at once would wait for one another; one each, and one more, goes round."""
    name, output = runner.inputs[0].name, runner.outputs[0].name

    def one(index):
        found = []
        for turn in range(6):
            pixels = images(*shapes[(index + turn) % len(shapes)], seed=10 * index + turn)
            ticket = runner.submit({name: pixels})
            found.append((runner.collect(ticket)[output], expected(pixels)))
        return found

    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(one, range(3)):
            for output_array, wanted in found:
                close(output_array, wanted, tolerance)


def device_imaging_agrees(kind, runner, sidecar, tolerance):
    """Compare images resized by a predictor ``kind`` with the host's: several sizes, each at least twice."""
    host = Predictor(runner, sidecar)
    with kind(runner, sidecar) as predictor:
        for turn, (height, width) in enumerate([(64, 64), (50, 70), (64, 64), (91, 60), (64, 64), (50, 70)]):
            image = np.random.default_rng(turn).integers(0, 256, (height, width, 3), dtype=np.uint8)
            found, wanted = predictor(image), host(image)
            assert found.network_size == wanted.network_size
            close(found.depth, wanted.depth, tolerance)


def images_come_back_in_order(predictor, host, tolerance):
    """Two at a time, of several sizes, each overwritten as soon as the next is asked for."""
    sizes = [(64, 64), (50, 70), (64, 64), (91, 60), (64, 64), (50, 70), (64, 64)]
    pictures = [
        np.random.default_rng(turn).integers(0, 256, (*size, 3), dtype=np.uint8) for turn, size in enumerate(sizes)
    ]

    def given():
        for picture in pictures:
            frame = picture.copy()
            yield frame
            frame[...] = 0

    found = list(predictor.predict_all(given()))
    assert len(found) == len(pictures)
    for prediction, picture in zip(found, pictures, strict=True):
        close(prediction.depth, host.predict(picture).depth, tolerance)


def layers_are_timed_apart(runner, expected, shapes, tolerance):
    """Every layer that is reported has a name and a time, two measurements have the same ones, and runs still agree."""
    name = runner.inputs[0].name
    for shape in shapes[:2]:
        first, second = (runner.layer_seconds({name: images(*shape)}, runs=3) for _ in range(2))
        assert set(first) == set(second)
        assert all(layer and seconds >= 0 for layer, seconds in first.items())
        assert sum(first.values()) > 0
    agree(runner, expected, shapes, tolerance)


def times_of_layers_are_reported(audit):
    """Shares go by time; most of it is that of layers that the inspector knows."""
    assert (audit.untimed, audit.basis) == ("", "time")
    assert 0 < sum(audit.times.precision.values()) <= audit.times.total
    assert audit.times.attention <= sum(audit.times.precision.values()) + audit.times.unknown


def profiles_are_measured(record, said):
    """Each profile has plausible times, measured on a named GPU, and no measurement failed."""
    assert not [line for line in said if "not measured" in line]
    assert record.measured_on is not None
    assert [time.profile for time in record.profile_times] == list(record.profiles)
    for time in record.profile_times:
        median, low, high = time.steady
        assert 0 < low <= median <= high
        assert time.first > 0
        assert time.switch is not None


def wrong_inputs_are_refused(runner, outside):
    """By name, type and shape; ``outside`` is a legal shape that no profile takes."""
    name = runner.inputs[0].name
    good = images(1, 64, 64)
    for inputs, match in (
        ({}, "the inputs are nothing"),
        ({"image": good}, f"takes '{name}'; the inputs are 'image'"),
        ({name: good.astype(np.float64)}, "does not accept .* float64"),
        ({name: good[0]}, "does not accept"),
        ({name: good[:, :2]}, "does not accept"),
        ({name: images(*outside)}, "its profiles: "),
    ):
        with pytest.raises(UsageError, match=match):
            runner.infer(inputs)


def is_a_finished_refit(done, model):
    """A plan that was just refitted is whole, of the model whose weights it got, and not verified."""
    sidecar = open_artifact(done.artifact.path).sidecar
    assert sidecar == done.artifact.sidecar
    assert (sidecar.kind, sidecar.parity, sidecar.weights) == ("plan", None, model.sidecar.weights)
    assert sidecar.parents == tuple(each for each in model.sidecar.payloads if each.name != model.sidecar.golden)
    assert sidecar.golden == f"{done.artifact.path.name}.golden.npz"
    options = sidecar.engine.options
    assert (options.strip_weights, options.refit) == (False, done.refittable)
    assert (sidecar.engine.refit is not None) == done.refittable
    assert done.weights > 0
