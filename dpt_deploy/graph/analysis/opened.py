"""An ONNX file that is read once, and asked many questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.shapes import ShapedGraph, element_types, infer_shapes

_IMAGE_RANK = 4
_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


class OpenedGraph:
    """A parsed ONNX file. Types are inferred once, and shapes once for each size and batch.

    ``model`` is shared by everything that analyses the graph: do not change it. Large weights that the file keeps
    apart are not read.

    Raises:
        BadFileError: not an ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = read_graph(path)
        self._shaped: dict[tuple[Size, int], ShapedGraph] = {}

    @cached_property
    def types(self) -> dict[str, int]:
        """Element type of each tensor; raises :class:`BadFileError` if one cannot be inferred."""
        with _analysis_errors(self.path):
            return element_types(self.model)

    def at(self, size: Size, batch: int = 1) -> ShapedGraph:
        """Nodes and shapes for ``batch`` images of ``size``; raises :class:`BadFileError` if that is impossible."""
        key = size, batch
        if key not in self._shaped:
            with _analysis_errors(self.path):
                self._shaped[key] = infer_shapes(self.model, size, batch)
        return self._shaped[key]


def read_graph(path: Path, *, weights: bool = False) -> ModelProto:
    """Parse an ONNX file; external weights are read only if ``weights`` is set.

    Raises:
        BadFileError: not an ONNX file, or not one of a network over images.
    """
    try:
        model = onnx.load(path, load_external_data=weights)
    except Exception as exc:  # protobuf raises its own, undocumented classes
        raise BadFileError(f"{path} is not an ONNX file ({exc})", hint="export it again") from exc
    if problem := _problem(model):
        raise BadFileError(f"{path} {problem}", hint="export it again")
    return model


def _problem(model: ModelProto) -> str:
    graph = model.graph
    found = {
        "names no opset of ONNX": not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import),
        "has no operations": not graph.node,
        "has no output": not graph.output,
        "has no input of 4 dimensions": not graph.input
        or len(graph.input[0].type.tensor_type.shape.dim) != _IMAGE_RANK,
        "has an operation without output": not all(node.output for node in graph.node),
        "has a tensor of no known element type": not _TYPES.issuperset(_stored_types(graph)),
    }
    return next((problem for problem, there in found.items() if there), "")


def _stored_types(graph: GraphProto) -> Iterator[int]:
    """Element types of the inputs, outputs and weights; 0 for an end that is not a tensor."""
    for end in (*graph.input, *graph.output):
        yield end.type.tensor_type.elem_type
    for weight in graph.initializer:
        yield weight.data_type


@contextmanager
def _analysis_errors(path: Path) -> Iterator[None]:
    """Turn what ONNX and NumPy raise about a graph that contradicts itself into :class:`BadFileError`."""
    try:
        yield
    except BadFileError:
        raise
    except Exception as exc:  # the classes of ONNX's inference are private
        raise BadFileError(
            f"{path} is not a valid graph: {' '.join(str(exc).split())[:200]}", hint="export it again"
        ) from exc
