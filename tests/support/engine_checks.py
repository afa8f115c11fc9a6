"""What any runner of an engine must do: the same assertions on a stand-in here and on a GPU where there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpt_deploy.core.errors import UsageError


def images(batch, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, 3, height, width)).astype(np.float32)


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


def wrong_feeds_are_refused(runner, outside):
    """By name, type and shape; ``outside`` is a legal shape that no profile takes."""
    name = runner.inputs[0].name
    good = images(1, 64, 64)
    for feed, match in (
        ({}, "the feed has nothing"),
        ({"image": good}, f"takes '{name}'; the feed has 'image'"),
        ({name: good.astype(np.float64)}, "does not accept .* float64"),
        ({name: good[0]}, "does not accept"),
        ({name: good[:, :2]}, "does not accept"),
        ({name: images(*outside)}, "its profiles: "),
    ):
        with pytest.raises(UsageError, match=match):
            runner.infer(feed)
