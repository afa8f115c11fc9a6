"""Lint an exported graph before it is written: nothing that makes it wrong or unportable may be in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir

from dpt_deploy.core.errors import DptError
from dpt_deploy.graph.axes import BATCH, HEIGHT, WIDTH

# Inputs that hold sizes and positions: a traced number in one of them is a baked size.
_SHAPE_INPUTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Resize": (2, 3),
    "Tile": (1,),
    "Slice": (1, 2),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Split": (1,),
    "Gather": (1,),
    "Pad": (1,),
}
_SCALES = frozenset({0.25, 0.5, 1.0, 2.0, 4.0})  # by design of the network; any other is a ratio of traced sizes
_CHANNELS = 3  # of an RGB image
_SHAPE_ARITHMETIC = frozenset({"Concat", "Add", "Sub", "Mul", "Div"})  # on integers these compute shapes
_LONGEST_SHAPE = 8  # dimensions
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


class LintError(DptError):
    """The graph has a property that makes it wrong or unportable; the message lists every finding."""

    def __init__(self, findings: list[str]) -> None:
        shown = "; ".join(findings[:5]) + (f"; and {len(findings) - 5} more" if len(findings) > 5 else "")
        super().__init__(f"the exported graph is refused: {shown}", hint="please report it with the recipe")
        self.findings = findings


def lint(model: ir.Model, traced: frozenset[int], free: Sequence[str] = (BATCH, HEIGHT, WIDTH)) -> None:
    """Raise :class:`LintError` listing every finding of :func:`findings`."""
    found = list(findings(model, traced, free))
    if found:
        raise LintError(found)


def findings(model: ir.Model, traced: frozenset[int], free: Sequence[str] = (BATCH, HEIGHT, WIDTH)) -> Iterator[str]:
    """Yield findings: baked sizes, float64, control flow, unknown operators, undeclared dimensions.

    ``traced`` are the numbers derived from the size used while tracing (:meth:`Axes.traced_numbers`);
    where there are any, the dimensions called ``free`` must be symbolic.
    """
    opset = model.opset_imports.get("", 0)
    for function in model.functions.values():
        yield f"local function {function.domain}::{function.name}"
    for node in model.graph.all_nodes():
        yield from _operator_findings(node, opset)
        yield from _dtype_findings(node)
        yield from _baked_findings(node, traced)
    for name, value in model.graph.initializers.items():
        if value.dtype in (ir.DataType.DOUBLE, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            yield f"initializer {name!r} is {value.dtype}"
    if traced:
        yield from _undeclared_findings(model, free)


def _operator_findings(node: ir.Node, opset: int) -> Iterator[str]:
    if node.op_type in _CONTROL_FLOW:
        yield f"control flow: {node.op_type} ({node.name})"
    if node.domain not in ("", "ai.onnx"):
        yield f"unknown operator {node.domain}::{node.op_type} ({node.name})"
    elif not _known(node.op_type, opset):
        yield f"operator {node.op_type} ({node.name}) is not in opset {opset}"


def _known(op_type: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(op_type, max_inclusive_version=opset)
    except onnx.defs.SchemaError:
        return False
    return True


def _dtype_findings(node: ir.Node) -> Iterator[str]:
    for value in node.outputs:
        if value.dtype == ir.DataType.DOUBLE:
            yield f"float64 tensor {value.name!r}"
    target = node.attributes.get("to")
    if node.op_type == "Cast" and target is not None and target.as_int() == ir.DataType.DOUBLE:
        yield f"cast to float64 ({node.name})"


def _baked_findings(node: ir.Node, traced: frozenset[int]) -> Iterator[str]:
    arithmetic = node.op_type in _SHAPE_ARITHMETIC
    for index in range(len(node.inputs)) if arithmetic else _SHAPE_INPUTS.get(node.op_type, ()):
        value = node.inputs[index] if index < len(node.inputs) else None
        constant = ir.convenience.get_const_tensor(value) if value is not None else None
        if constant is None:
            continue
        if node.op_type == "Resize" and constant.dtype == ir.DataType.FLOAT:
            odd = [float(scale) for scale in constant.numpy() if float(scale) not in _SCALES]
            if odd:
                yield f"size baked into Resize ({node.name}): scale {', '.join(f'{scale:g}' for scale in odd)}"
        if constant.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
            continue
        values = constant.numpy()
        # A list of sizes is short. A longer one holds indices, among which any number may stand: its length tells.
        numbers = values.reshape(-1) if values.size <= _LONGEST_SHAPE else values.shape
        leaked = sorted(traced.intersection(map(int, numbers)))
        if leaked:
            yield f"size baked into {node.op_type} ({node.name}): {', '.join(map(str, leaked))}"


def _undeclared_findings(model: ir.Model, free: Sequence[str]) -> Iterator[str]:
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            yield f"{value.name!r} has no shape"
            continue
        dims = list(value.shape)
        # Batch first, then height and width: last of an NCHW tensor or a map, in the middle of an NHWC image.
        spatial = dims[1:3] if dims[-1] == _CHANNELS else dims[-2:]
        for name, dim in zip((BATCH, HEIGHT, WIDTH), (dims[0], *spatial), strict=True):
            if name in free and not isinstance(dim, ir.SymbolicDim):
                yield f"{value.name!r} has a fixed {name} of {dim}"
