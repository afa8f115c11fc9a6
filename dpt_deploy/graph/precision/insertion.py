"""New nodes and constants for a place in a graph, named after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir


class Insertion:
    """Nodes and constants that will stand in front of a node; their names start with ``title``."""

    def __init__(self, model: ir.Model, title: str) -> None:
        self._graph, self._title = model.graph, title
        self._nodes: list[ir.Node] = []

    def constant(self, suffix: str, numbers: np.ndarray) -> ir.Value:
        """Return a new initialiser of the graph with these ``numbers``."""
        tensor = ir.Tensor(np.asarray(numbers, order="C"), name=f"{self._title}.{suffix}")
        value = ir.Value(name=tensor.name, const_value=tensor)
        value.shape, value.type = ir.Shape(numbers.shape), ir.TensorType(tensor.dtype)
        self._graph.register_initializer(value)
        return value

    def add(self, kind: str, inputs: list[ir.Value | None], part: str = "", **attributes: Any) -> ir.Value:
        """Append a node and return its output; ``part`` tells nodes of one ``kind`` from each other."""
        name = f"{self._title}{f'.{part}' if part else ''}/{kind}"
        self._nodes.append(ir.node(kind, inputs, attributes, name=name))
        (output,) = self._nodes[-1].outputs
        output.name = name
        return output

    def replace(self, old: ir.Value, new: ir.Value, before: ir.Node) -> None:
        """Insert the nodes in front of ``before``; ``new`` gets the name, the type and the readers of ``old``."""
        self._graph.insert_before(before, self._nodes)
        new.name, old.name, new.type = old.name, None, old.type
        for use in list(old.uses()):
            use.node.replace_input_with(use.idx, new)
