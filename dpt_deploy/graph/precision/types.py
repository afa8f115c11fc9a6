"""Rewrite an FP32 graph as a strongly typed 16-bit graph.

TensorRT 11 has no precision flags: an engine computes in the types of the ONNX file (strong typing). So precision is a
rewrite of the graph. Every floating-point tensor gets the 16-bit type, except those of chosen FP32 nodes. A value that
crosses between the two is cast once. Inputs and outputs of the graph stay FP32, so all precisions are called alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError
from dpt_deploy.core.precision import PRECISIONS, find_precision

_HALF_TYPES = {each.name: ir.DataType[each.float_type] for each in PRECISIONS.values() if each.is_half}

# Inputs that stay FP32 in a 16-bit node: ONNX defines them so, because they are sizes.
_FP32_INPUTS = {"Resize": (1, 2)}
# Operators with an attribute that keeps their statistics in FP32. Attention has a similar one for its softmax, but
# TensorRT's parser refuses it ("Setting softmax precision is not supported"); TensorRT's kernels sum in FP32 anyway.
_STATISTICS = {"LayerNormalization": "stash_type", "GroupNormalization": "stash_type"}


@dataclass(frozen=True)
class TypedValues:
    """Counts of a rewrite: nodes in 16 bits, nodes in FP32, and inserted casts."""

    half: int
    full: int
    casts: int


def to_half(model: ir.Model, precision: str, fp32_nodes: Collection[str] = ()) -> TypedValues:
    """Give ``model`` (FP32, changed in place) the 16-bit type of ``precision``, except the nodes in ``fp32_nodes``.

    Quantised tensors (see :mod:`~dpt_deploy.graph.precision.qdq`) stay quantised; their steps take the 16-bit type. An
    attribute of each norm keeps its statistics in FP32.

    Raises:
        BadFileError: the graph is typed already, or one of ``fp32_nodes`` is not in it.
        IncompatibleError: ONNX does not define an operator of the graph in 16 bits; the message names the node.
    """
    kind = ir.DataType[find_precision(precision).float_type]
    _check(model, fp32_nodes)
    full = frozenset(fp32_nodes) | _restoring(model, fp32_nodes)
    floats = _float_values(model)
    _check_operators(model, kind, full, floats)
    rewriter = _Rewriter(model, kind, full, floats)
    rewriter.run()
    return TypedValues(rewriter.half, rewriter.full, rewriter.casts)


def is_typed(model: ir.Model) -> bool:
    """Return True if the graph has 16-bit weights or casts, or quantised tensors."""
    return _is_half(model) or any("QuantizeLinear" in node.op_type for node in model.graph)


def _is_half(model: ir.Model) -> bool:
    narrow = {*_HALF_TYPES.values()}
    if any(value.dtype in narrow for value in model.graph.initializers.values()):
        return True
    casts = {node.attributes["to"].as_int() for node in model.graph if node.op_type == "Cast"}
    return bool(casts & {int(kind) for kind in narrow})


def _check(model: ir.Model, fp32_nodes: Collection[str]) -> None:
    if _is_half(model):
        raise BadFileError("the graph is typed already", hint="start from the FP32 export of the model")
    missing = set(fp32_nodes) - {node.name for node in model.graph}
    if missing:
        raise BadFileError(
            f"there is no node {min(missing)!r} to keep in FP32", hint="names are those of the FP32 graph"
        )


def _check_operators(model: ir.Model, kind: ir.DataType, fp32_nodes: Collection[str], floats: Collection[int]) -> None:
    """Check every operator first, so that a graph is rewritten as a whole or not at all."""
    opset = model.opset_imports[""]
    for node in model.graph:
        made = [index for index, value in enumerate(node.outputs) if id(value) in floats]
        if made and node.name not in fp32_nodes and not _exists(node, made[0], kind, opset):
            raise IncompatibleError(
                f"{node.op_type} ({node.name}) does not exist in {_suffix(kind)} in ONNX opset {opset}",
                hint=f"it works if the node {node.name!r} stays FP32; please report the recipe",
            )


def _exists(node: ir.Node, output: int, kind: ir.DataType, opset: int) -> bool:
    """Return True if ONNX defines the operator with an output of this type."""
    schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset, domain=node.domain)
    wanted = schema.outputs[min(output, len(schema.outputs) - 1)].type_str  # the last one may stand for many
    allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    return f"tensor({kind.name.lower()})" in allowed.get(wanted, [wanted])


def _restoring(model: ir.Model, fp32_nodes: Collection[str]) -> set[str]:
    """Find the nodes that restore quantised numbers for an FP32 node.

    They stay FP32 too: runtimes recognise a pair only if no cast follows it.
    """
    producers = [value.producer() for node in model.graph if node.name in fp32_nodes for value in node.inputs if value]
    return {str(node.name) for node in producers if node is not None and node.op_type == "DequantizeLinear"}


class _Rewriter:
    """Walk the nodes in execution order; give each the inputs of the type that it computes in."""

    def __init__(self, model: ir.Model, kind: ir.DataType, fp32_nodes: frozenset[str], floats: set[int]) -> None:
        self.graph, self.kind, self.fp32_nodes = model.graph, kind, fp32_nodes
        self.half = self.full = self.casts = 0
        self.floats = floats  # ids of values that hold floating-point numbers, before the rewrite
        self.narrow: set[int] = set()  # ids of values that are 16 bits wide so far
        self.other: dict[int, ir.Value] = {}  # id of a value to its copy in the other type

    def run(self) -> None:
        for node in list(self.graph):
            outputs = [value for value in node.outputs if id(value) in self.floats]
            inputs = [index for index, value in enumerate(node.inputs) if id(value) in self.floats]
            if outputs:
                self._type(node, inputs, outputs, narrow=node.name not in self.fp32_nodes)
            elif node.op_type == "QuantizeLinear":
                for index in inputs:
                    self._give(node, index, narrow=True)
            elif inputs:
                self._check_takes_any(node)
        self._widen_outputs()

    def _check_takes_any(self, node: ir.Node) -> None:
        if node.op_type not in ("Shape", "Size", "Cast", "ArgMax"):
            raise DptError(
                f"{node.op_type} ({node.name}) turns floats into another kind of value; it cannot be typed",
                hint="please report it with the recipe",
            )

    def _give(self, node: ir.Node, index: int, *, narrow: bool) -> None:
        """Give input ``index`` of ``node`` the wanted type."""
        value = node.inputs[index]
        if value is None or (id(value) in self.narrow) == narrow:
            return
        if id(value) not in self.other:
            self.other[id(value)] = self._constant(value) if value.is_initializer() else self._cast(value, narrow)
        node.replace_input_with(index, self.other[id(value)])

    def _constant(self, value: ir.Value) -> ir.Value:
        """Copy a weight in 16 bits. It saturates: a weight beyond the range would become infinite."""
        tensor = value.const_value
        if tensor is None:
            raise DptError(f"weight {value.name!r} has no values", hint="please report it with the recipe")
        limit = float(self.kind.max)
        numbers = tensor.numpy().clip(-limit, limit).astype(self.kind.numpy())
        copy = ir.Value(name=f"{value.name}.{_suffix(self.kind)}", const_value=ir.Tensor(numbers))
        copy.shape, copy.type = value.shape, ir.TensorType(self.kind)
        self.graph.register_initializer(copy)
        self.narrow.add(id(copy))
        return copy

    def _cast(self, value: ir.Value, narrow: bool) -> ir.Value:
        kind = self.kind if narrow else ir.DataType.FLOAT
        node = ir.node("Cast", [value], {"to": int(kind)}, name=f"{value.name}.to_{_suffix(kind)}")
        node.outputs[0].name = f"{value.name}.{_suffix(kind)}"
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        self.casts += 1
        if narrow:
            self.narrow.add(id(node.outputs[0]))
        return node.outputs[0]

    def _type(self, node: ir.Node, inputs: list[int], outputs: list[ir.Value], *, narrow: bool) -> None:
        """Give the inputs and outputs of ``node`` the type that it computes in."""
        for index in inputs:
            if not narrow or index not in _FP32_INPUTS.get(node.op_type, ()):
                self._give(node, index, narrow=narrow)
        self.half, self.full = self.half + narrow, self.full + (not narrow)
        if not narrow:
            return
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(self.kind))
        elif node.op_type in _STATISTICS:
            name = _STATISTICS[node.op_type]
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
        elif node.op_type == "ConstantOfShape":
            node.attributes["value"] = ir.AttrTensor(
                "value", ir.Tensor(node.attributes["value"].as_tensor().numpy().astype(self.kind.numpy()))
            )
        for value in outputs:
            value.type = ir.TensorType(self.kind)
            self.narrow.add(id(value))

    def _widen_outputs(self) -> None:
        """Cast the outputs of the graph back to FP32 under their own names."""
        for index, value in enumerate(self.graph.outputs):
            if id(value) not in self.narrow:
                continue
            name, shape = value.name, value.shape
            value.name = f"{name}.{_suffix(self.kind)}"
            wide = self._cast(value, narrow=False)
            wide.name, wide.shape, wide.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
            self.graph.outputs[index] = wide
        for value in [entry for entry in self.graph.initializers.values() if not entry.uses()]:
            del self.graph.initializers[str(value.name)]


def _float_values(model: ir.Model) -> set[int]:
    """Ids of every FP32 value; types of intermediate values are inferred, because the exporter's are removed."""
    inferred = ShapeInferencePass(check_type=True)(model.clone()).model
    names = {value.name for node in inferred.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT}
    unknown = [value.name for node in inferred.graph for value in node.outputs if value.name and value.dtype is None]
    if unknown:
        raise DptError(f"the type of {unknown[0]!r} cannot be inferred", hint="please report it with the recipe")
    found = {id(value) for node in model.graph for value in node.outputs if value.name in names}
    weights = [*model.graph.initializers.values(), *model.graph.inputs]
    return found | {id(value) for value in weights if value.dtype == ir.DataType.FLOAT}


def _suffix(kind: ir.DataType) -> str:
    return {ir.DataType.FLOAT: "fp32", **{kind: name for name, kind in _HALF_TYPES.items()}}[kind]
