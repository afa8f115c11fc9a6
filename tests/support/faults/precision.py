"""Faults of 16-bit graphs, planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, numpy_helper

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images
from dpt_deploy.jobs.verify.golden import golden_size
from dpt_deploy.jobs.verify.variants import Variants

BLOCK = "encoder.blocks.1.attn"
TIMES = 1e5
LARGEST = 65000.0  # FP16 ends at 65504


def overflow(model: ModelProto) -> None:
    """Values of one attention times 1e5, its projection by as much less: the same function, but not in FP16."""
    for node in model.graph.node:
        if node.name.startswith(f"{BLOCK}.qkv/MatMul"):
            _scale(model, node.input[1], lambda weight: np.concatenate(_scaled(np.split(weight, 3, axis=1)), axis=1))
        if node.name.startswith(f"{BLOCK}.proj/MatMul"):
            _scale(model, node.input[1], lambda weight: weight / TIMES)


def _scaled(parts: list[np.ndarray]) -> list[np.ndarray]:
    query, key, value = parts
    return [query, key, value * TIMES]


def _scale(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(values.astype(np.float32)).astype(values.dtype), name))


def enlarge(part: str) -> Callable[[ModelProto], None]:
    """A fault: the weights of a part are as large as FP16 holds, so what it returns is not."""

    def change(model: ModelProto) -> None:
        layers = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
        for node in layers:
            if node.name.startswith(part):
                _scale(model, node.input[1], lambda values: values * (LARGEST / np.abs(values).max()))

    return change


def first_trouble(artifact: Artifact) -> tuple[str | None, str | None]:
    """What ``diagnose`` names: the first tensor that is not finite, and the first that exceeds the tolerance."""
    inputs = model_inputs(artifact.sidecar, parity_images("fp16", 1, golden_size(artifact.sidecar)[1]))
    tolerances = {each.name: each.tolerance for each in artifact.sidecar.outputs}
    with Variants(artifact, inputs, tolerances) as variants:
        not_finite, divergence = variants.first_trouble()
    return not_finite, divergence.tensor if divergence else None
