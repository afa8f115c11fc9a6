"""Group norms written out for OpenVINO, as means over the pixels of each channel.

OpenVINO normalises rows: it brings a map from the layout of its convolutions, channels last, into one where each group
is a row, and back. Means over height and width keep the layout. What follows is two numbers per channel, with which
OpenVINO scales and shifts a channel in the same kernel that applies ReLU and rounds. In graphs of one size this is
faster. There OpenVINO 2026.4 also fuses the operator GroupNormalization into kernels that read freed memory.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dpt_deploy.core.errors import DptError
from dpt_deploy.graph.naming import module_of
from dpt_deploy.graph.precision.insertion import Insertion

_PIXELS = [2, 3]  # axes of a map (B, C, H, W)
_MEMBERS = [2]  # axis of the channels in (B, groups, C / groups)


def write_out_group_norms(model: ir.Model) -> int:
    """Replace each GroupNormalization (``model`` is changed in place) by means; return their number.

    The variance is that around the mean of the group, so nothing cancels out. The outputs keep their names. Source: Wu
    and He 2018, "Group Normalization", equations 1, 2 and 7.
    """
    found = [node for node in model.graph if node.op_type == "GroupNormalization"]
    for node in found:
        _write_out(model, node)
        model.graph.remove(node, safe=True)
    return len(found)


def _write_out(model: ir.Model, norm: ir.Node) -> None:
    pixels, weight, bias = norm.inputs
    groups = norm.attributes["num_groups"].as_int()
    new = Insertion(model, module_of(str(norm.name)))
    channels = _numbers(weight).size
    grouped, members = [1, groups, channels // groups], new.constant("members", np.array(_MEMBERS))
    area = new.constant("pixels", np.array(_PIXELS))
    by_group = new.constant("by_group", np.array([0, *grouped[1:]]))
    by_channel = new.constant("by_channel", np.array([0, channels, 1, 1]))

    def over_group(value: ir.Value | None, part: str) -> ir.Value:
        """Mean over the pixels and the channels of each group: (B, groups, 1)."""
        channel = new.add("ReduceMean", [value, area], f"{part}_of_channel", keepdims=0)
        rows = new.add("Reshape", [channel, by_group], f"{part}_by_group")
        return new.add("ReduceMean", [rows, members], f"{part}_of_group", keepdims=1)

    def per_channel(value: ir.Value, part: str) -> ir.Value:
        return new.add("Reshape", [value, by_channel], part)

    mean = over_group(pixels, "mean")
    repeated = new.add("Add", [mean, new.constant("zeros", np.zeros(grouped, np.float32))], "mean")
    centred = new.add("Sub", [pixels, per_channel(repeated, "mean")], "centred")
    variance = over_group(new.add("Mul", [centred, centred], "squared"), "variance")
    epsilon = new.constant("epsilon", np.array(norm.attributes["epsilon"].as_float(), np.float32))
    deviation = new.add("Sqrt", [new.add("Add", [variance, epsilon], "variance")], "deviation")
    scale = new.add("Div", [new.constant("scales", _numbers(weight).reshape(grouped)), deviation], "scale")
    shift = new.add(
        "Sub", [new.constant("shifts", _numbers(bias).reshape(grouped)), new.add("Mul", [mean, scale], "mean")], "shift"
    )
    scaled = new.add("Mul", [pixels, per_channel(scale, "scale")], "scaled")
    new.replace(norm.outputs[0], new.add("Add", [scaled, per_channel(shift, "shift")]), norm)


def _numbers(value: ir.Value | None) -> np.ndarray:
    if value is None or value.const_value is None:
        raise DptError("a group norm has no constant weights", hint="please report it with the recipe")
    return value.const_value.numpy()
