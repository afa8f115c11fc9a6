"""Count the precisions that a network computes in before it is built, and refuse a false name.

An engine named FP16 that computes in FP32 works, but is slow, and nothing reports it. This module counts the shares and
rejects a name that they contradict.

The network gives the type of every layer without a GPU. Fusions, kernels and times are known only to the built engine,
on the GPU it was built for (``inspection``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dpt_deploy.artifact.records import AuditRecord
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.precision import FP32
from dpt_deploy.engine.compat import Edition, as_attention

NARROW_SHARE = 0.5  # of time or arithmetic: below it the name of a narrow precision is false
WIDE = FP32

# TensorRT's names of element types, and this project's.
_NAMES = {
    "FLOAT": WIDE,
    "HALF": "fp16",
    "BF16": "bf16",
    "INT8": "int8",
    "FP8": "fp8",
    "INT4": "int4",
    "FP4": "fp4",
}
_QUANTISED = ("int8", "fp8", "int4", "fp4")
_MATRIX = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_OUTPUT")
# Attention is two layers; the second has the node's name.
_UNCOUNTED = ("CAST", "CONSTANT", "QUANTIZE", "DEQUANTIZE", "SHAPE", "IDENTITY", "ATTENTION_INPUT")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")

AWAITS_DEVICE = "kernels, fusions and the time per precision are known only to the built engine, on its GPU"


def audit_network(edition: Edition, network: Any, operations: Mapping[str, int]) -> AuditRecord:
    """Count the layers of a parsed network; ``operations`` are the arithmetic operations of each ONNX node."""
    producers = _producers(network)
    layers: Counter[str] = Counter()
    arithmetic: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    attention = {"whole": 0, "decomposable": 0}
    left = dict(operations)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name
        kinds[kind] += 1
        if (fused := as_attention(edition, layer)) is not None:
            attention["decomposable" if fused.decomposable else "whole"] += 1
        precision = _precision(layer, producers)
        if kind in _UNCOUNTED or precision is None:
            continue
        layers[precision] += 1
        if kind in _MATRIX:
            arithmetic[precision] += left.pop(_node_of(layer), 0)
    return AuditRecord(
        "network",
        dict(layers),
        dict(arithmetic),
        attention,
        kinds["QUANTIZE"],
        kinds["DEQUANTIZE"],
        sum(_casts_floats(network.get_layer(index)) for index in range(network.num_layers)),
    )


def check_audit(found: AuditRecord, precision: str, name: str) -> None:
    """Raise :class:`ParityError` if an engine does not compute in the precision of its name.

    The shares are those of time if it was measured, else of arithmetic, else of the number of layers.
    """
    if precision == WIDE:
        return
    narrow = 1.0 - found.share(WIDE)
    if narrow < NARROW_SHARE:
        raise ParityError(
            f"{name} is named {precision} but {_DOES[found.basis]} {100 * (1 - narrow):.0f} % of its {found.basis} in "
            f"{WIDE} ({_counts(found)}); expected at most {100 * (1 - NARROW_SHARE):.0f} %",
            hint="export it again with --precision; an FP32 graph under another name stays FP32",
        )
    kind = precision.partition("-")[0]
    if kind in _NAMES.values() and not found.share(kind):
        raise ParityError(
            f"{name} is named {precision} but {_DOES[found.basis]} none of its {found.basis} in {kind} "
            f"({_counts(found)})",
            hint="export it again with --precision, or name it after the precision that it computes in",
        )


_DOES = {"time": "spends", "arithmetic": "does", "layers": "has"}


def _counts(found: AuditRecord) -> str:
    return ", ".join(f"{kind} {100 * found.share(kind):.0f} %" for kind in sorted(found.weights)) or "nothing counted"


def _producers(network: Any) -> dict[str, Any]:
    """Map each tensor to the layer that makes it."""
    found = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            found[layer.get_output(output).name] = layer
    return found


def _precision(layer: Any, producers: Mapping[str, Any]) -> str | None:
    """Type that a layer computes in; None if it handles no floating-point numbers.

    A matrix product whose operands are dequantised computes in the quantised type.
    """
    if layer.num_outputs == 0 or layer.get_output(0) is None:
        return None
    computed = _NAMES.get(layer.get_output(0).dtype.name)
    if computed is None or layer.type.name not in _MATRIX:
        return computed
    operands = [_quantised_as(layer.get_input(index), producers) for index in range(min(2, layer.num_inputs))]
    # Weights that are not an input of the layer are plain numbers, not quantised ones.
    return operands[0] if len(operands) == 2 and all(operand in _QUANTISED for operand in operands) else computed


def _quantised_as(tensor: Any, producers: Mapping[str, Any]) -> str | None:
    """Type from which a tensor was dequantised, looking through layers that only move numbers; None if it was not."""
    layer = producers.get(tensor.name) if tensor is not None else None
    while layer is not None and layer.type.name in ("SHUFFLE", "IDENTITY", "CAST", "SLICE"):
        layer = producers.get(layer.get_input(0).name)
    if layer is None or layer.type.name != "DEQUANTIZE":
        return None
    return _NAMES.get(layer.get_input(0).dtype.name)


def _node_of(layer: Any) -> str:
    found = _ONNX_NODE.search(layer.metadata or "")
    return found[1] if found else layer.name


def _casts_floats(layer: Any) -> bool:
    if layer.type.name != "CAST":
        return False
    return all(tensor.dtype.name in _NAMES for tensor in (layer.get_input(0), layer.get_output(0)))
