"""Quantise a graph: QuantizeLinear and DequantizeLinear pairs around the operands of convolutions and products.

A pair states that its numbers are multiples of one step. Runtimes that see pairs on both operands of a convolution or
a product compute it in 8 bits; everything else reads a pair as plain rounding. There is one step per activation, and
one per output channel of a weight. Weights are rounded here. Biases are not quantised.

Four precisions use one table of clipping values, so one calibration serves several graphs:

- ``int8``: signed and symmetric (no offset), as TensorRT requires. Pairs on inputs only, so that an engine fuses
  convolution, addition and ReLU before it rounds.
- ``int8-cpu``: unsigned with an offset (asymmetric): the 256 levels cover what the tensor holds and no more, which
  halves the step behind a ReLU or a GELU. The integer kernels of CPUs take it at the same speed. ONNX Runtime's
  integer convolution returns integers, so the outputs of convolutions are quantised too. In front of a ReLU they take
  the ReLU's step: rounding twice is then rounding once, and if the range starts at zero, rounding is the ReLU.
- ``int8-openvino``: pairs on inputs only, too. What is never negative is unsigned from zero on, which halves the step;
  the rest is signed and symmetric. OpenVINO's products pay for an offset at run time. It multiplies queries and keys of
  attention in integers, so they are quantised, and so is the image.
- ``fp8``: E4M3 (Micikevicius et al. 2022, FP8 Formats for Deep Learning). Its largest number is the clipping value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dpt_deploy.core.errors import BadFileError, DptError, UsageError
from dpt_deploy.core.precision import QuantisedFormat, find_precision
from dpt_deploy.graph.analysis.describe import ADDED_BIAS
from dpt_deploy.graph.precision.attention import attentions, operands
from dpt_deploy.graph.precision.types import is_typed

Bounds = tuple[float, float]  # the least and the largest number of a tensor

BOUND = "/bound"  # ends the name of the node that replaces a ReLU
_TINY = float(np.finfo(np.float16).smallest_subnormal)  # the least step: a smaller one would be zero in an FP16 graph


class Grid(NamedTuple):
    """Numbers that an activation is rounded to: the step, the stored number that means zero, the ONNX type."""

    step: np.float32
    zero: int
    kind: str


@dataclass(frozen=True)
class Placement:
    """Counts of a rewrite: nodes that multiply quantised numbers, and quantised tensors."""

    nodes: int
    tensors: int


def targets(model: ir.Model) -> list[ir.Node]:
    """Find the nodes that can be quantised, in execution order: convolutions and products with a constant matrix.

    What is computed from the size of the image alone, such as resized positions, is not among them.
    """
    pixels = _from_pixels(model)
    return [node for node in model.graph if axis_of(node) is not None and node.inputs[0] in pixels]


def _from_pixels(model: ir.Model) -> set[ir.Value]:
    """The tensors that depend on the values of an input, not only on its shape."""
    found = set(model.graph.inputs)
    for node in model.graph:
        if node.op_type != "Shape" and not found.isdisjoint(value for value in node.inputs if value is not None):
            found.update(node.outputs)
    return found


def ends(model: ir.Model, *, image: bool = False) -> dict[str, str]:
    """Map the first and the last target, which are not quantised, to the reasons; with ``image`` the last one only."""
    first, last = targets(model)[0], targets(model)[-1]
    reads = {str(first.name): "it reads the image, and steps without an offset would lose half of its levels"}
    return {
        **({} if image else reads),
        str(last.name): "it computes the output: rounding would show in every pixel, and the node is cheap",
    }


def watched(model: ir.Model, keep: Collection[str] = (), *, scores: bool = False) -> list[str]:
    """Names of the tensors to calibrate: inputs of targets outside ``keep``, outputs of convolutions.

    With ``scores`` queries and keys of attention are among them.
    """
    names: dict[str, None] = {}
    for node in targets(model):
        if node.name not in keep:
            names[_name(node.inputs[0])] = None
            if node.op_type == "Conv":
                names[_name(_returned(node))] = None
    for node in attentions(model) if scores else []:
        if node.name not in keep:
            names.update(dict.fromkeys(map(_name, operands(node))))
    return list(names)


def quantise(
    model: ir.Model,
    precision: str,
    clip: Mapping[str, float],
    keep: Collection[str] = (),
    bounds: Mapping[str, Bounds] = MappingProxyType({}),
) -> Placement:
    """Quantise the targets of ``model`` (FP32, changed in place), except the nodes named in ``keep``.

    Formats with ``scores`` also quantise the queries and keys of attention.

    ``clip`` maps each tensor of :func:`watched` to the magnitude that the last step reaches, ``bounds`` to its least
    and largest number. Formats with an offset use the bounds that are given.

    Raises:
        BadFileError: the graph is typed already, a node to keep is not in it, or a clipping value is missing.
    """
    if is_typed(model):
        raise BadFileError("the graph is typed already", hint="start from the FP32 export of the model")
    missing = set(keep) - {node.name for node in model.graph}
    if missing:
        raise BadFileError(f"there is no node {min(missing)!r} to keep", hint="names are those of the FP32 graph")
    form = quantised_format(precision)
    if unknown := set(watched(model, keep, scores=form.scores)) - set(clip):
        raise BadFileError(f"tensor {min(unknown)!r} was not calibrated", hint="calibrate the graph anew")
    quantiser = _Quantiser(model, form, clip, bounds)
    nodes = [node for node in targets(model) if node.name not in keep]
    scores = [node for node in attentions(model) if form.scores and node.name not in keep]
    for node in nodes:
        quantiser.quantise(node)
    for node in scores:
        quantiser.quantise_scores(node)
    quantiser.drop_unused()
    return Placement(len(nodes) + len(scores), len(quantiser.done))


def quantised_format(precision: str) -> QuantisedFormat:
    """Return the 8-bit format of ``precision``.

    Raises:
        UsageError: it is not a precision of 8 bits.
    """
    found = find_precision(precision).quantised
    if found is None:
        raise UsageError(f"precision {precision!r} is not quantised", hint="use int8, int8-cpu or fp8")
    return found


def step(clip: float, largest: float) -> np.float32:
    """Distance of two quantised numbers. It is exact in FP16, so FP16 and FP32 graphs hold equal numbers."""
    return np.float32(np.float16(max(clip / largest, _TINY)))


def grid(form: QuantisedFormat, clip: float, bounds: Bounds | None = None) -> Grid:
    """Return the numbers that an activation is rounded to; zero is always exact.

    ``clip`` is its clipping value, ``bounds`` its least and largest number if they are known.
    """
    levels = 2.0 * form.largest + 1.0
    if form.signed and (bounds is None or bounds[0] < 0.0):
        return Grid(step(clip, form.largest), 0, form.signed)
    if form.signed:
        return Grid(step(clip, levels), form.zero, form.activations)
    if not form.offset or bounds is None:
        return Grid(step(clip, form.largest), form.zero, form.activations)
    low, high = min(0.0, max(bounds[0], -clip)), max(0.0, min(bounds[1], clip))
    size = step(high - low, levels)
    return Grid(size, int(np.clip(np.rint(-low / size), 0, levels)), form.activations)


def axis_of(node: ir.Node) -> int | None:
    """Axis of the output channels of a target's weight; None for nodes that are not targets."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or not weight.is_initializer() or weight.shape is None or weight.dtype != ir.DataType.FLOAT:
        return None
    if node.op_type == "MatMul" and len(weight.shape) == 2:
        return 1
    return 0 if node.op_type == "Conv" else None


def _name(value: ir.Value | None) -> str:
    if value is None or not value.name:
        raise DptError("a tensor has no name", hint="please report it with the recipe")
    return value.name


def _values(weight: ir.Value) -> np.ndarray:
    if weight.const_value is None:
        raise DptError(f"weight {weight.name!r} has no values", hint="please report it with the recipe")
    return weight.const_value.numpy()


def _only_relu(value: ir.Value) -> ir.Node | None:
    """Return the ReLU that is the only reader of ``value``; None if there is none."""
    users = [use.node for use in value.uses()]
    return users[0] if len(users) == 1 and users[0].op_type == "Relu" and not value.is_graph_output() else None


def _returned(conv: ir.Node) -> ir.Value:
    """Return the tensor whose step a convolution's output takes: the ReLU's output if one follows."""
    relu = _only_relu(conv.outputs[0])
    return relu.outputs[0] if relu is not None else conv.outputs[0]


class _Quantiser:
    def __init__(
        self, model: ir.Model, form: QuantisedFormat, clip: Mapping[str, float], bounds: Mapping[str, Bounds]
    ) -> None:
        self.graph, self.form, self.clip, self.bounds = model.graph, form, clip, bounds
        self.weights = ir.DataType[form.weights]
        self.done: dict[str, ir.Value] = {}  # tensor to its restored value, behind the pair
        self.zeros: dict[tuple[int, str], ir.Value] = {}  # constants, by their number and type

    def quantise(self, node: ir.Node) -> None:
        value, weight, axis = node.inputs[0], node.inputs[1], axis_of(node)
        if value is None or weight is None or axis is None:
            raise DptError(f"{node.name} cannot be quantised", hint="please report it with the recipe")
        node.replace_input_with(0, self._pair(value))
        node.replace_input_with(1, self._weight(weight, axis))
        if node.op_type == "Conv" and self.form.outputs and not node.outputs[0].is_graph_output():
            self._quantise_output(node.outputs[0])
        elif node.op_type == "Conv" and len(node.inputs) == 2 and len(node.outputs[0].uses()) > 1:
            self._add_bias(node, len(_values(weight)))

    def quantise_scores(self, attention: ir.Node) -> None:
        for index, value in enumerate(operands(attention)):
            attention.replace_input_with(index, self._pair(value))

    def _add_bias(self, conv: ir.Node, channels: int) -> None:
        """Add a bias that changes nothing.

        OpenVINO 2026.4 applies the scale of the weight twice where a convolution without a bias has several readers.
        A bias of zero would be optimised away before that.
        """
        bias = self._constant(f"{_name(conv.outputs[0])}{ADDED_BIAS}", np.full(channels, _TINY), ir.DataType.FLOAT)
        conv.resize_inputs(3)
        conv.replace_input_with(2, bias)

    def drop_unused(self) -> None:
        """Remove the weights that quantised copies replaced."""
        for value in [entry for entry in self.graph.initializers.values() if not entry.uses()]:
            del self.graph.initializers[str(value.name)]

    def _pair(self, value: ir.Value) -> ir.Value:
        name, producer = _name(value), value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            return value  # the restored output of a convolution
        if name not in self.done:
            scale, zero = self._grid(name)
            quantised = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}/quantise")
            restored = ir.node("DequantizeLinear", [quantised.outputs[0], scale, zero], name=f"{name}/restore")
            self._name_outputs(name, quantised, restored)
            if producer is None:
                self.graph.insert_before(self.graph[0], [quantised, restored])
            else:
                self.graph.insert_after(producer, [quantised, restored])
            self.done[name] = restored.outputs[0]
        return self.done[name]

    def _quantise_output(self, value: ir.Value) -> None:
        """Give all readers of a convolution's output the restored value.

        A ReLU between becomes a lower bound: of the integers themselves if zero is the least of them, else a Clip.
        """
        relu, conv = _only_relu(value), value.producer()
        target = relu.outputs[0] if relu is not None else value
        name = _name(target)
        if conv is None or target.is_graph_output():
            return
        scale, zero = self._grid(name)
        is_bound = relu is not None and bool(np.all(_values(zero) == 0)) and self.form.zero > 0
        quantised = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}{BOUND if is_bound else '/quantise'}")
        nodes, last = [quantised], quantised
        if relu is not None and not is_bound:
            last = ir.node("Clip", [quantised.outputs[0], zero], name=f"{name}{BOUND}")
            last.outputs[0].name = f"{name}.bounded"
            nodes.append(last)
        restored = ir.node("DequantizeLinear", [last.outputs[0], scale, zero], name=f"{name}/restore")
        self._name_outputs(name, quantised, restored)
        self.graph.insert_after(conv, [*nodes, restored])
        for use in [entry for entry in target.uses() if entry.node is not quantised]:
            use.node.replace_input_with(use.idx, restored.outputs[0])
        if relu is not None:
            self.graph.remove(relu, safe=True)
        self.done[name] = restored.outputs[0]

    def _name_outputs(self, name: str, quantised: ir.Node, restored: ir.Node) -> None:
        quantised.outputs[0].name, restored.outputs[0].name = f"{name}.quantised", f"{name}.restored"
        zero = quantised.inputs[2]
        quantised.outputs[0].type = zero.type if zero is not None else None
        restored.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)

    def _grid(self, name: str) -> tuple[ir.Value, ir.Value]:
        """Constants of an activation: its step, and its zero, which tensors share."""
        size, zero, kind = grid(self.form, self.clip[name], self.bounds.get(name))
        if (zero, kind) not in self.zeros:
            title = f"quantised zero {zero}" + (f" {kind}" if self.form.signed else "")
            self.zeros[zero, kind] = self._constant(title, np.array(zero), ir.DataType[kind])
        return self._constant(f"{name}.step", np.array(size), ir.DataType.FLOAT), self.zeros[zero, kind]

    def _weight(self, weight: ir.Value, axis: int) -> ir.Value:
        """Add the weight in 8 bits, one step per output channel, and the node that restores it."""
        name = f"{_name(weight)}.axis{axis}"
        if name not in self.done:
            steps, whole = quantised_weight(_values(weight), axis, self.form)
            values = self._constant(f"{name}.quantised", whole, self.weights)
            scale = self._constant(f"{name}.step", steps, ir.DataType.FLOAT)
            zero = self._constant(f"{name}.zero", np.zeros(len(steps)), self.weights)
            node = ir.node("DequantizeLinear", [values, scale, zero], {"axis": axis}, name=f"{name}/restore")
            node.outputs[0].name, node.outputs[0].type = f"{name}.restored", ir.TensorType(ir.DataType.FLOAT)
            self.graph.insert_before(self.graph[0], node)
            self.done[name] = node.outputs[0]
        return self.done[name]

    def _constant(self, name: str, numbers: np.ndarray, kind: ir.DataType) -> ir.Value:
        value = ir.Value(name=name, const_value=ir.Tensor(numbers.astype(kind.numpy()), dtype=kind, name=name))
        value.shape, value.type = ir.Shape(numbers.shape), ir.TensorType(kind)
        self.graph.register_initializer(value)
        return value


def quantised_weight(weight: np.ndarray, axis: int, form: QuantisedFormat) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (channels,) of a weight along ``axis``, and the weight in steps: integers, or E4M3 values."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others)
    steps = np.array([step(float(value), form.largest) for value in largest], np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = (weight / steps.reshape(shape)).clip(-form.largest, form.largest)
    return steps, scaled if ir.DataType[form.weights] == ir.DataType.FLOAT8E4M3FN else np.rint(scaled)
