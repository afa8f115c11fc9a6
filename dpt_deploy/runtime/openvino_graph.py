"""Graphs as OpenVINO reads them: defects of its release that a graph must not meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.optional import extra

with extra("openvino", purpose="runtime 'openvino'"):
    from openvino import opset14

_PER_GROUP = [2]  # the axis that is left when each group is a row
_PER_CHANNEL = [1, -1, 1, 1]

_Path = tuple[tuple[int, str], ...]  # inputs to follow, and the types of the operators that they come from
_SCALED: _Path = ((0, "Multiply"),)
_SCALE: _Path = (*_SCALED, (1, "Reshape"), (0, "Divide"))
_SCALES: _Path = (*_SCALE, (0, "Constant"))  # (1, groups, C / groups)
_EPSILON: _Path = (*_SCALE, (1, "Sqrt"), (0, "Add"), (1, "Constant"))
_SHIFTS: _Path = ((1, "Reshape"), (0, "Subtract"), (0, "Constant"))


def decompose_group_norms(model: Any) -> int:
    """Replace group norms (``model`` is changed in place) by the operators they consist of; return their number.

    OpenVINO 2026.4 does so itself in graphs of any size. In graphs of a fixed size it fuses them into kernels of its
    own, and then reads freed memory, which crashes now and then. The fused ones are slower, too.
    """
    found = [each for each in model.get_ops() if each.get_type_name() == "GroupNormalization"]
    for node in found:
        data, scale, shift = (node.input_value(index) for index in range(3))
        options = node.get_attributes()
        _normalise_rows(node, data, scale, shift, options["num_groups"], options["epsilon"])
    return len(found)


def join_group_norms(model: Any) -> int:
    """Replace group norms that a file holds written out, as means over pixels, by rows; return their number.

    The means (:mod:`dpt_deploy.graph.precision.group_norms`) are the faster form in a graph of one size. In a graph of
    any size OpenVINO fuses less, and rows are faster. ``model`` is changed in place.
    """
    written = [parts for node in model.get_ops() if (parts := _written_out(node)) is not None]
    for parts in written:
        _normalise_rows(*parts)
    return len(written)


def _written_out(node: Any) -> tuple[Any, Any, Any, Any, int, float] | None:
    """Return the arguments of :func:`_normalise_rows` if ``node`` ends a norm that is written out."""
    found = [_follow(node, path) for path in (_SCALED, _SCALES, _SHIFTS, _EPSILON)]
    scaled, scales, shifts, epsilon = found
    if node.get_type_name() != "Add" or any(each is None for each in found) or len(scales.get_output_shape(0)) != 3:
        return None
    _, groups, _ = scales.get_output_shape(0)
    return node, scaled.input_value(0), scales, shifts, groups, epsilon.get_data().item()


def _follow(node: Any, path: _Path) -> Any:
    """Return the operator at the end of ``path``, which starts behind ``node``; None if one has another type."""
    for index, kind in path:
        if index >= node.get_input_size() or (node := node.input_value(index).get_node()).get_type_name() != kind:
            return None
    return node


def _normalise_rows(node: Any, data: Any, scale: Any, shift: Any, groups: int, epsilon: float) -> None:
    """Replace ``node`` by the norm of ``data`` (B, C, H, W), whose groups become rows."""
    rows = opset14.reshape(data, np.array([0, groups, -1]), special_zero=True)
    normal = opset14.mvn(rows, np.array(_PER_GROUP), True, float(epsilon), "inside_sqrt")
    image = opset14.reshape(normal, opset14.shape_of(data), special_zero=False)
    wide = [opset14.reshape(each, np.array(_PER_CHANNEL), special_zero=False) for each in (scale, shift)]
    result = opset14.add(opset14.multiply(image, wide[0]), wide[1])
    result.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(result.output(0))


def refuse_wrong(model: Any, path: Path) -> None:
    """Refuse a graph on which OpenVINO 2026.4 applies the scale of quantised weights twice.

    That happens where the output of a quantised convolution without a bias goes two ways. Graphs that this program
    writes give such a convolution a bias (:func:`dpt_deploy.graph.precision.qdq.quantise`).

    Raises:
        IncompatibleError: the graph has such a convolution.
    """
    for operation in model.get_ops():
        if operation.get_type_name() != "Convolution":
            continue
        weight = operation.input_value(1).get_node().get_type_name()
        readers = [port.get_node().get_type_name() for port in operation.output(0).get_target_inputs()]
        if weight not in ("Constant", "Convert") and len(readers) - readers.count("ShapeOf") > 1:
            raise IncompatibleError(
                f"OpenVINO computes {path} wrong: {operation.get_friendly_name()} is quantised, has no bias, and its"
                " output goes two ways",
                hint="export it again, or use the int8-cpu file",
            )
