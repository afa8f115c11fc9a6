"""Abilities of runners are recognised by their protocols, and arrays by the memory they are in."""

import numpy as np
import pytest

from dpt_deploy.core.runner import AsyncRunner, DeviceRunner, ImageRunner, InspectableRunner, on_device
from dpt_deploy.runtime.registry import find_runtime

ABILITIES = (AsyncRunner, DeviceRunner, InspectableRunner, ImageRunner)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("ort", set(), marks=pytest.mark.needs("onnxruntime")),
        pytest.param("torch", set(), marks=pytest.mark.needs("torch")),
        pytest.param("trt", {AsyncRunner, DeviceRunner, InspectableRunner}, marks=pytest.mark.needs("cuda")),
        pytest.param("native", {ImageRunner}, marks=pytest.mark.fast),
    ],
)
def test_a_runner_has_the_abilities_whose_methods_it_has(name, expected):
    runner = find_runtime(name).load()
    assert {ability for ability in ABILITIES if issubclass(runner, ability)} == expected


@pytest.mark.fast
def test_a_host_array_is_not_on_a_device():
    assert not on_device(np.zeros(3))
    assert not on_device("no array")


@pytest.mark.fast
def test_an_array_with_either_interface_is_on_the_device():
    interface = type("Cupy", (), {"__cuda_array_interface__": {}})()
    dlpack = type("Jax", (), {"__dlpack_device__": lambda _self: (2, 0)})()
    on_host = type("Host", (), {"__dlpack_device__": lambda _self: (1, 0)})()
    assert on_device(interface)
    assert on_device(dlpack)
    assert not on_device(on_host)


@pytest.mark.fast
def test_a_property_that_refuses_host_arrays_is_no_device():
    def refuse(_self):
        raise AttributeError("a host tensor")

    assert not on_device(type("Tensor", (), {"__cuda_array_interface__": property(refuse)})())
