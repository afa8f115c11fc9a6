"""Keep OpenVINO from merging what scales and shifts a channel with the rounding behind it.

OpenVINO moves constants of a multiplication or an addition into the rounding that follows. Where the size of the image
is free, it applies them to the wrong channels: always if it computes 8 bits in floats, otherwise where it does not know
the number of channels or finds an addition alone. Only constants are merged. So they are multiplied by a one that is
computed when the graph runs: the numbers stay the same, and the cost is one product per channel.

In our graphs these are the constants of group norms in opset 20, which has no node for such a norm.
"""

from __future__ import annotations

import onnx_ir as ir

HIDDEN = "/hidden"  # ends the name of a node that makes a constant depend on the input
_ONE = "one"
_AFFINE = ("Mul", "Add")


def hide_affines(model: ir.Model) -> None:
    """Make the constants of each channel in front of a rounding depend on the input (``model`` is changed in place).

    A graph of one size is left as it is: there OpenVINO is right.
    """
    (pixels,) = model.graph.inputs
    if pixels.shape is None or pixels.shape.is_static():
        return
    hidden: dict[ir.Value, ir.Value] = {}
    for rounding in [node for node in model.graph if node.op_type == "QuantizeLinear"]:
        for reader, constant in _constants_before(rounding.inputs[0]):
            if constant not in hidden:
                hidden[constant] = _hidden(model, constant)
            reader.replace_input_with(reader.inputs.index(constant), hidden[constant])


def _constants_before(value: ir.Value | None) -> list[tuple[ir.Node, ir.Value]]:
    """Find the nodes that scale and shift the channels of ``value``, with their constants."""
    found: list[tuple[ir.Node, ir.Value]] = []
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "Relu":
            value = node.inputs[0]
            continue
        constants = [each for each in node.inputs if each is not None and _per_channel(each)]
        if node.op_type not in _AFFINE or len(constants) != 1:
            break
        found.append((node, constants[0]))
        (value,) = (each for each in node.inputs if each is not constants[0])
    return found


def _per_channel(value: ir.Value) -> bool:
    """Return True for a constant of one number per channel of a map, such as (C, 1, 1)."""
    if not value.is_initializer() or value.shape is None:
        return False
    dims = value.shape.numpy()
    return len(dims) > 1 and dims[-1] == 1 and max(dims) > 1


def _hidden(model: ir.Model, constant: ir.Value) -> ir.Value:
    one = _one(model)
    node = ir.node("Mul", [constant, one.outputs[0]], name=f"{constant.name}{HIDDEN}")
    node.outputs[0].name = str(node.name)
    model.graph.insert_after(one, node)
    return node.outputs[0]


def _one(model: ir.Model) -> ir.Node:
    """The node that returns the one, (1,): the batch divided by itself. It is added to the graph at the first call."""
    for node in model.graph:
        if node.name == _ONE:
            return node
    shape = ir.node("Shape", [model.graph.inputs[0]], {"start": 0, "end": 1}, name=f"{_ONE}/Shape")
    floats = ir.node("Cast", shape.outputs, {"to": ir.DataType.FLOAT}, name=f"{_ONE}/Cast")
    quotient = ir.node("Div", [floats.outputs[0], floats.outputs[0]], name=_ONE)
    for node in (shape, floats, quotient):
        node.outputs[0].name = str(node.name)
    model.graph.insert_before(model.graph[0], (shape, floats, quotient))
    return quotient
