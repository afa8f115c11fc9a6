"""Move the spread between channels from a LayerNorm's output into the weights that read it.

A tensor has one step, which has to fit its largest channel. If channels differ by factors of ten, small ones are
rounded to a few levels. LayerNorm ends in a scale and a shift per channel. Both can be divided by any factors sⱼ > 0 if
the rows of the matrices that read it are multiplied by them::

    (γ x̂ + β) W  =  ((γ/s) x̂ + β/s) (diag(s) W)

With sⱼ = max|Xⱼ|^α / max|Wⱼ|^(1-α) both sides share the spread (Xiao et al. 2023, SmoothQuant, Eq. 4).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dpt_deploy.core.errors import DptError
from dpt_deploy.graph.passes import Outcome

ALPHA = 0.5
_TINY = 1e-5


def candidates(model: ir.Model) -> list[str]:
    """Names of the outputs of LayerNorms; :func:`smooth` needs their largest magnitude per channel."""
    return [str(node.outputs[0].name) for node in model.graph if node.op_type == "LayerNormalization"]


def smooth(model: ir.Model, largest: Mapping[str, np.ndarray]) -> Outcome:
    """Smooth every LayerNorm whose only readers are products with constant matrices (``model`` is changed in place).

    ``largest`` maps each tensor of :func:`candidates` to the largest magnitude of its channels, (C,).
    """
    fired, refused = [], {}
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            if reason := _obstacle(node, largest):
                refused[str(node.name)] = reason
            else:
                _rewrite(model, node, largest[str(node.outputs[0].name)])
                fired.append(str(node.name))
    for value in [entry for entry in model.graph.initializers.values() if not entry.uses()]:
        del model.graph.initializers[str(value.name)]
    return Outcome(tuple(fired), refused)


def _obstacle(norm: ir.Node, largest: Mapping[str, np.ndarray]) -> str:
    """Return the reason why a LayerNorm cannot be smoothed; empty if it can."""
    output = norm.outputs[0]
    if len(norm.inputs) < 3 or any(value is None or not value.is_initializer() for value in norm.inputs[1:3]):
        return "its scale or shift is not constant"
    if output.name not in largest:
        return "its channels were not measured"
    if output.is_graph_output() or not output.uses():
        return "the graph returns it"
    for use in output.uses():
        weight = use.node.inputs[1] if len(use.node.inputs) > 1 else None
        if use.node.op_type != "MatMul" or use.idx != 0 or weight is None or not weight.is_initializer():
            return f"{use.node.name} reads it, which is no product with a constant matrix"
    return ""


def _rewrite(model: ir.Model, norm: ir.Node, largest: np.ndarray) -> None:
    readers = [use.node for use in norm.outputs[0].uses()]
    rows = np.max([np.abs(_numbers(node.inputs[1])).max(axis=1) for node in readers], axis=0)
    factors = np.maximum(largest, _TINY) ** ALPHA / np.maximum(rows, _TINY) ** (1.0 - ALPHA)
    factors = (factors / np.exp(np.log(factors).mean())).astype(
        np.float64
    )  # geometric mean 1: the overall scale does not change
    for index in (1, 2):
        _replace(model, norm, index, _numbers(norm.inputs[index]) / factors)
    for node in readers:
        _replace(model, node, 1, _numbers(node.inputs[1]) * factors[:, None])


def _numbers(value: ir.Value | None) -> np.ndarray:
    if value is None or value.const_value is None:
        raise DptError("a constant has no values", hint="please report it with the recipe")
    return value.const_value.numpy().astype(np.float64)


def _replace(model: ir.Model, node: ir.Node, index: int, numbers: np.ndarray) -> None:
    """Give this node a constant of its own: the exporter shares equal ones."""
    tensor = ir.Tensor(numbers.astype(np.float32))
    value = ir.Value(name=f"{node.name}.smooth{index}", const_value=tensor)
    value.shape, value.type = ir.Shape(numbers.shape), ir.TensorType(ir.DataType.FLOAT)
    model.graph.register_initializer(value)
    node.replace_input_with(index, value)
