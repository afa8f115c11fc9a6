"""Arrays that a caller gives to an engine's runner, by name and checked against the engine's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.cuda.arrays import DeviceView, device_view
from dpt_deploy.runtime.tensorrt.engine import OpenEngine


def fitting(inputs: Tensors, opened: OpenEngine) -> np.ndarray:
    """Return the input as a contiguous array; raise :class:`UsageError` if it does not fit."""
    value = np.ascontiguousarray(only(inputs, opened.input))
    opened.check(value.shape, value.dtype)
    return value


def only(inputs: Mapping[str, Any], spec: TensorSpec) -> Any:
    """Return the array of the one input; raise :class:`UsageError` if there is another, or none."""
    if set(inputs) != {spec.name}:
        raise UsageError(
            f"the engine takes {spec.name!r}; the inputs are {', '.join(map(repr, sorted(inputs))) or 'nothing'}",
            hint="see its inputs with `dpt-deploy inspect`",
        )
    return inputs[spec.name]


def by_name(out: Any, opened: OpenEngine) -> dict[str, Any]:
    """Return the arrays of ``out`` by the name of their output; one without a name is that of the first output."""
    return dict(out) if isinstance(out, Mapping) else {opened.outputs[0].name: out}


def views(arrays: Mapping[str, Any], opened: OpenEngine) -> dict[str, DeviceView]:
    """Return where the arrays lie, as seen from the engine's stream; raise :class:`UsageError` for one of the host."""
    return {name: device_view(array, opened.stream) for name, array in arrays.items()}
