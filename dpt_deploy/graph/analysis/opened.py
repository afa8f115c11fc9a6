"""An ONNX file that is read once, and asked many questions."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import onnx
from onnx import ModelProto

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.shapes import ShapedGraph, element_types, infer_shapes


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
        return element_types(self.model)

    def at(self, size: Size, batch: int = 1) -> ShapedGraph:
        """Nodes and shapes for ``batch`` images of ``size``."""
        key = size, batch
        if key not in self._shaped:
            self._shaped[key] = infer_shapes(self.model, size, batch)
        return self._shaped[key]


def read_graph(path: Path, *, weights: bool = False) -> ModelProto:
    """Parse an ONNX file; external weights are read only if ``weights`` is set.

    Raises:
        BadFileError: not an ONNX file.
    """
    try:
        return onnx.load(path, load_external_data=weights)
    except Exception as exc:  # protobuf raises its own, undocumented classes
        raise BadFileError(f"{path} is not an ONNX file ({exc})", hint="export it again") from exc
