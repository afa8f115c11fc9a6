"""Check of the inputs and outputs of a loaded graph against its sidecar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.limits import OUTPUT
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.spec import TensorSpec


def check_ends(runner: Runner, path: Path, sidecar: Sidecar) -> None:
    """Hold inputs and outputs of the graph at ``path`` to the sidecar, before anything is computed.

    Raises:
        BadFileError: they differ, or an output of fixed size is larger than the limit.
    """
    static = sidecar.shapes.static
    sizes = {
        "batch": 1 if sidecar.shapes.single else None,
        "height": static and static[0],
        "width": static and static[1],
    }
    inputs, outputs = ({end.name: end for end in ends} for ends in (runner.inputs, runner.outputs))
    if set(inputs) != {end.name for end in sidecar.inputs}:
        raise _other_ends(path, f"inputs {', '.join(inputs)}", sidecar.inputs)
    for wanted in sidecar.outputs:
        found = outputs.get(wanted.name)
        if found is None or found.dtype != wanted.dtype or len(found.shape) != len(wanted.shape):
            raise _other_ends(path, f"outputs {', '.join(map(described, outputs.values()))}", sidecar.outputs)
        fixed = [dim for dim in found.shape if isinstance(dim, int)]
        OUTPUT.check(f"{path}: {wanted.name}", math.prod(fixed) * np.dtype(found.dtype).itemsize)
        for dim, name in zip(found.shape, wanted.shape, strict=True):
            if isinstance(dim, int) and isinstance(name, str) and name in sizes and dim != sizes[name]:
                raise _other_ends(path, f"an output {described(found)}", [wanted])


def described(end: TensorSpec) -> str:
    """Name, type and shape of a tensor, for messages."""
    return f"{end.name} {end.dtype}({', '.join(map(str, end.shape))})"


def _other_ends(path: Path, found: str, expected: Sequence[TensorSpec]) -> BadFileError:
    return BadFileError(
        f"{path} has {found}; its sidecar says {', '.join(map(described, expected))}", hint="export it again"
    )
