"""Attention in 8 bits: its first product, and a projection each for queries, keys and values.

The first product multiplies queries and keys, which are activations both. The second one multiplies probabilities; most
of them are far below one step of 8 bits, so it stays in floats.

Encoders compute queries, keys and values in one product and cut the result into three. OpenVINO computes attention and
the transpositions before it in one kernel, but has to copy the result to cut it. With a product for each of the three
there is nothing to cut, and a product whose result is quantised writes integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dpt_deploy.graph.naming import module_of
from dpt_deploy.graph.precision.insertion import Insertion

_PARTS = ("query", "key", "value")  # end the names of the nodes of one projection
_ROUNDING = ("DequantizeLinear", "QuantizeLinear")
_CUT = ("Squeeze", "Slice", "Transpose", "Reshape", "Add", "MatMul")  # from a part back to the product
_TO_PARTS = [2, 0, 3, 1, 4]  # (B, T, 3, heads, width) to (3, B, heads, T, width)
_TO_HEADS = [0, 2, 1, 3]  # (B, T, heads, width) to (B, heads, T, width)


class _Joint(NamedTuple):
    """A product that computes all three, and the three tensors that are cut from its result."""

    product: ir.Node
    weight: list[np.ndarray]  # integers (C, 3 D), steps (3 D,), zeros (3 D,)
    bias: np.ndarray  # (3 D,)
    heads: int
    parts: list[ir.Value]  # (B, heads, T, D / heads) each


def attentions(model: ir.Model) -> list[ir.Node]:
    """Return the nodes whose queries and keys can be quantised, in execution order: Attention of opset 23."""
    return [node for node in model.graph if node.op_type == "Attention"]


def operands(attention: ir.Node) -> list[ir.Value]:
    """Return the queries and the keys of an Attention node."""
    return [value for value in attention.inputs[:2] if value is not None]


def split_projections(model: ir.Model) -> int:
    """Give queries, keys and values of a quantised ``model`` (changed in place) a product each.

    The three tensors keep their names and numbers. Returns the number of products that were split; those of another
    form are left as they are.
    """
    found = [joint for node in attentions(model) if (joint := _joint(node)) is not None]
    for joint in found:
        for index in range(len(_PARTS)):
            _split(model, joint, index)
    if found:
        RemoveUnusedNodesPass()(model)
    return len(found)


def _joint(attention: ir.Node) -> _Joint | None:
    """Find the product that all inputs of ``attention`` are cut from; None if they are computed in another way."""
    chains = [chain for value in attention.inputs[: len(_PARTS)] if (chain := _chain(value)) is not None]
    if len(chains) != len(_PARTS) or [_list(slice_.inputs[1]) for _, slice_, *_ in chains] != [[0], [1], [2]]:
        return None
    _, _, transpose, reshape, added, product = chains[0]
    restored, heads, biases = _restored(product), _heads(reshape), _constants(added)
    readers = [len(node.outputs[0].uses()) for node in (transpose, reshape, added, product)]
    if (
        any(chain[2] is not transpose for chain in chains)
        or list(transpose.attributes["perm"].as_ints()) != _TO_PARTS
        or readers != [len(_PARTS), 1, 1, 1]
        or len(restored) != 3
        or not heads
        or [each.shape for each in biases] != [restored[1].shape]
    ):
        return None
    return _Joint(product, restored, biases[0], heads, [squeeze.outputs[0] for squeeze, *_ in chains])


def _restored(product: ir.Node) -> list[np.ndarray]:
    """Return the integers, steps and zeros of a product's weight; nothing if it is not quantised."""
    node = product.inputs[1].producer() if product.inputs[1] is not None else None
    return _constants(node) if node is not None and node.op_type == "DequantizeLinear" else []


def _chain(value: ir.Value | None) -> list[ir.Node] | None:
    """Return the nodes of :data:`_CUT` behind ``value``, any rounding left out; None if it is computed by others."""
    while value is not None and (node := value.producer()) is not None and node.op_type in _ROUNDING:
        value = node.inputs[0]
    found: list[ir.Node] = []
    for kind in _CUT:
        node = value.producer() if value is not None else None
        if node is None or node.op_type != kind:
            return None
        found.append(node)
        value = next((each for each in node.inputs if each is not None and not each.is_initializer()), None)
    return found


def _heads(reshape: ir.Node) -> int:
    """Return the number of heads from a shape (B, T, 3, heads, width); 0 if it has another form."""
    shape = reshape.inputs[1]
    numbers, concat = _list(shape), shape.producer() if shape is not None else None
    if concat is not None and concat.op_type == "Concat" and len(concat.inputs) == len(_TO_PARTS):
        return int(*_list(concat.inputs[3])) if _list(concat.inputs[3]) else 0
    return numbers[3] if len(numbers) == len(_TO_PARTS) else 0


def _split(model: ir.Model, joint: _Joint, index: int) -> None:
    """Compute one part by a product of its own, which gets the name and the readers of the part."""
    old, title = joint.parts[index], f"{module_of(str(joint.product.name))}.{_PARTS[index]}"
    wide = len(joint.bias) // len(_PARTS)
    own = slice(index * wide, (index + 1) * wide)
    new = Insertion(model, title)
    names = ("quantised", "step", "zero")
    weight = [new.constant(name, each[..., own]) for name, each in zip(names, joint.weight, strict=True)]
    restored = new.add("DequantizeLinear", [*weight], axis=1)
    product = new.add("MatMul", [joint.product.inputs[0], restored])
    added = new.add("Add", [product, new.constant("bias", joint.bias[own])])
    shape = new.constant("shape", np.array([0, 0, joint.heads, wide // joint.heads]))
    part = new.add("Transpose", [new.add("Reshape", [added, shape])], perm=_TO_HEADS)
    new.replace(old, part, joint.product)


def _constants(node: ir.Node) -> list[np.ndarray]:
    return [value.const_value.numpy() for value in node.inputs if value is not None and value.const_value is not None]


def _list(value: ir.Value | None) -> list[int]:
    return value.const_value.numpy().tolist() if value is not None and value.const_value is not None else []
