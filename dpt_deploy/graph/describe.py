"""What is in a graph: operators, weights, inputs and outputs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import TensorSpec


@dataclass(frozen=True)
class Description:
    """A readable summary of one ONNX file."""

    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    parameters: int
    weight_bytes: int


def read_graph(path: Path) -> ModelProto:
    """The graph without its external weights.

    Raises:
        BadFileError: not an ONNX file.
    """
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as exc:  # protobuf raises its own, undocumented classes
        raise BadFileError(f"{path} is not an ONNX file ({exc})", hint="export it again") from exc


def describe(path: Path) -> Description:
    """Summary of the file at ``path``."""
    model = read_graph(path)
    graph = model.graph
    sizes = [(math.prod(tensor.dims), tensor.data_type) for tensor in graph.initializer]
    floats = [
        count
        for count, kind in sizes
        if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    ]
    weight_bytes = sum(count * helper.tensor_dtype_to_np_dtype(kind).itemsize for count, kind in sizes)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return Description(
        opset=opset,
        inputs=tuple(_tensor_spec(value) for value in graph.input),
        outputs=tuple(_tensor_spec(value) for value in graph.output),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        parameters=sum(floats),
        weight_bytes=weight_bytes,
    )


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
