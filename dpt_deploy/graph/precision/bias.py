"""Bias correction: subtract the mean error that rounding adds to each output channel of a quantised node.

Rounding and clipping move the mean of an output channel, and later layers see the shift in every pixel. For
``y = W x + b`` the expected shift needs means per input channel only, because the expectation of a linear map is the
linear map of the expectation::

    E[y] - E[ŷ]  =  Σ_c ( E[x_c] Σ_k W[o, c, k]  -  E[x̂_c] Σ_k Ŵ[o, c, k] )

where x̂ and Ŵ are rounded, and k runs over the taps of a kernel (Nagel et al. 2019, Data-Free Quantization Through
Weight Equalization and Bias Correction, Eq. 15, with measured means). For products it is exact; for convolutions it
neglects that taps beyond the border read zeros. Each node is corrected for its own shift, with the inputs of the FP32
graph, so one measurement serves all nodes and no shift is subtracted twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import ModelProto, TensorProto, helper

from dpt_deploy.core.errors import DptError
from dpt_deploy.core.precision import QuantisedFormat
from dpt_deploy.graph.analysis.describe import ADDED_BIAS
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.mark import place_early
from dpt_deploy.graph.precision.qdq import Grid, axis_of, quantised_format, quantised_weight, targets

EXACT = "exact"  # in the place of a precision: the mean before rounding
_HALF = 128  # of the numbers of a byte

Means = dict[tuple[str, str], np.ndarray]  # (tensor, precision) to the mean of its channels, (C,)


@dataclass(frozen=True)
class MeansProbe:
    """A graph that returns the mean per channel of tensors, exact and rounded; ``names`` maps its outputs to both."""

    path: Path
    names: Mapping[str, tuple[str, str]]


def is_correctable(precision: str) -> bool:
    """Return True for integers; rounding to floats is symmetric and has no clipping to speak of."""
    return quantised_format(precision).weights == "INT8"


def write_means_probe(
    source: Path, target: Path, grids: Mapping[str, Mapping[str, Grid]], keep: Collection[str]
) -> MeansProbe:
    """Write to ``target`` the FP32 graph of ``source`` with the means of all inputs of quantised nodes as outputs.

    ``grids`` maps a precision to the numbers of each tensor. External weights are referred to by name: their
    file must be in the folder of ``target``.
    """
    model = read_graph(source)
    readers = {
        str(value.name): node
        for node in targets(ir.load(source))
        if node.name not in keep and (value := node.inputs[0]) is not None
    }
    del model.graph.output[:]
    own = len(model.graph.node)
    names: dict[str, tuple[str, str]] = {}
    for index, (tensor, node) in enumerate(readers.items()):
        variants = {EXACT: tensor}
        for precision, grid in grids.items():
            variants[precision] = _add_rounded(model, tensor, f"means/{index}/{precision}", grid[tensor])
        for precision, name in variants.items():
            output = f"means/{index}/{precision}/mean"
            _add_mean(model, name, output, node)
            names[output] = (tensor, precision)
    place_early(model.graph, own)
    onnx.save(model, target)
    return MeansProbe(target, names)


def shifts(model: ir.Model, precision: str, means: Means, keep: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Map each quantised node of the FP32 ``model`` to what its bias lacks, E[y] - E[ŷ], (O,)."""
    form, found = quantised_format(precision), {}
    for node in targets(model):
        axis = axis_of(node)
        if node.name in keep or axis is None:
            continue
        weight, tensor = _numbers(node.inputs[1]), str(node.inputs[0].name)  # type: ignore[union-attr]
        exact, rounded = means[tensor, EXACT], means[tensor, precision]
        found[str(node.name)] = expected_shift(weight, axis, form, exact, rounded, _groups(node))
    return found


def expected_shift(
    weight: np.ndarray, axis: int, form: QuantisedFormat, exact: np.ndarray, rounded: np.ndarray, groups: int = 1
) -> np.ndarray:
    """Return E[y] - E[ŷ] per output channel, (O,).

    Args:
        weight: of a product (C, O), or of a convolution (O, C / groups, KH, KW).
        axis: of the output channels.
        form: the numbers that it is rounded to.
        exact: mean per input channel (C,) before rounding.
        rounded: the same after rounding.
        groups: of a convolution.
    """
    steps, whole = quantised_weight(weight, axis, form)
    shape = [1] * weight.ndim
    shape[axis] = -1
    summed = [_summed(each, axis) for each in (weight, whole * steps.reshape(shape))]  # (O, C / groups)
    parts = [mean.astype(np.float64).reshape(groups, -1) for mean in (exact, rounded)]
    before, after = (
        np.einsum("goc,gc->go", matrix.reshape(groups, -1, matrix.shape[1]), mean).reshape(-1)
        for matrix, mean in zip(summed, parts, strict=True)
    )
    return np.asarray(before - after, np.float32)


def correct(model: ir.Model, found: Mapping[str, np.ndarray]) -> int:
    """Add to the biases of the quantised ``model`` (changed in place) what they lack; return how many were changed.

    A convolution without a bias gets one. A product without a bias behind it is left alone: an addition costs time.
    """
    changed = 0
    for node in list(model.graph):
        shift = found.get(str(node.name))
        if shift is None:
            continue
        owner, index = (node, 2) if node.op_type == "Conv" else _addition(node, len(shift))
        if owner is None:
            continue
        bias = owner.inputs[index] if index < len(owner.inputs) else None
        if node.op_type == "Conv" and bias is None:
            owner.resize_inputs(3)
        _replace(model, owner, index, bias, shift)
        changed += 1
    for value in [entry for entry in model.graph.initializers.values() if not entry.uses()]:
        del model.graph.initializers[str(value.name)]
    return changed


def _addition(product: ir.Node, channels: int) -> tuple[ir.Node | None, int]:
    """Find the only reader of a product if it adds a constant per channel, and the place of that constant."""
    users = list(product.outputs[0].uses())
    if len(users) == 1 and users[0].node.op_type == "Add":
        index = 1 - users[0].idx
        bias = users[0].node.inputs[index]
        if bias is not None and bias.is_initializer() and _numbers(bias).shape == (channels,):
            return users[0].node, index
    return None, 0


def _replace(model: ir.Model, node: ir.Node, index: int, bias: ir.Value | None, shift: np.ndarray) -> None:
    """Give this node a constant of its own: the exporter shares equal ones."""
    counted = bias is not None and ADDED_BIAS not in str(bias.name)
    numbers = shift if bias is None else (_numbers(bias).astype(np.float64) + shift).astype(np.float32)
    name = f"{node.name}.corrected" if counted else f"{node.name}{ADDED_BIAS}"
    value = ir.Value(name=name, const_value=ir.Tensor(numbers, name=name))
    value.shape, value.type = ir.Shape(numbers.shape), ir.TensorType(ir.DataType.FLOAT)
    model.graph.register_initializer(value)
    node.replace_input_with(index, value)


def _summed(weight: np.ndarray, axis: int) -> np.ndarray:
    """Sum a weight over the taps of its kernel: (O, C)."""
    numbers = weight.astype(np.float64)
    return numbers.T if axis == 1 else numbers.sum(axis=tuple(range(2, numbers.ndim)))


def _groups(node: ir.Node) -> int:
    attribute = node.attributes.get("group")
    return attribute.as_int() if attribute is not None else 1


def _numbers(value: ir.Value | None) -> np.ndarray:
    if value is None or value.const_value is None:
        raise DptError("a constant has no values", hint="please report it with the recipe")
    return value.const_value.numpy()


def _add_rounded(model: ModelProto, tensor: str, name: str, grid: Grid) -> str:
    """Add a pair that rounds ``tensor``, and return the name of its output."""
    # Unsigned with a zero that is higher by 128 holds the numbers of signed: ONNX Runtime refuses signed at opset 23.
    shift = _HALF if grid.kind == "INT8" else 0
    ends = [f"{name}/step", f"{name}/zero"]
    model.graph.initializer.append(helper.make_tensor(ends[0], TensorProto.FLOAT, [], [float(grid.step)]))
    model.graph.initializer.append(helper.make_tensor(ends[1], TensorProto.UINT8, [], [grid.zero + shift]))
    model.graph.node.append(helper.make_node("QuantizeLinear", [tensor, *ends], [f"{name}/quantised"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", [f"{name}/quantised", *ends], [f"{name}/restored"]))
    return f"{name}/restored"


def _add_mean(model: ModelProto, tensor: str, output: str, reader: ir.Node) -> None:
    """Add the mean of ``tensor`` over all but the channels that ``reader`` sums over."""
    axes, source = [0, 2, 3], tensor
    if reader.op_type == "MatMul":
        axes, source = [0], f"{output}/rows"
        rows = helper.make_tensor(f"{output}/shape", TensorProto.INT64, [2], [-1, len(_numbers(reader.inputs[1]))])
        model.graph.initializer.append(rows)
        model.graph.node.append(helper.make_node("Reshape", [tensor, rows.name], [source]))
    model.graph.initializer.append(helper.make_tensor(f"{output}/axes", TensorProto.INT64, [len(axes)], axes))
    model.graph.node.append(helper.make_node("ReduceMean", [source, f"{output}/axes"], [output], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None]))
