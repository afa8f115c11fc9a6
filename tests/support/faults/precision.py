"""Faults of 16-bit graphs, planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, numpy_helper

BLOCK = "encoder.blocks.1.attn"
TIMES = 1e5


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
