"""Export a PyTorch module as an ONNX model with symbolic batch, height and width."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from dpt_deploy.core.errors import DptError
from dpt_deploy.core.spec import INPUT_UINT8, InputKind
from dpt_deploy.graph.axes import BATCH, MAX_BATCH, MAX_SIDE, Axes
from dpt_deploy.graph.lint import lint
from dpt_deploy.graph.naming import name_after_modules
from dpt_deploy.graph.program import program_of
from dpt_deploy.graph.resize_shapes import known_resize_shapes

OPSETS = (20, 23)


@dataclass(frozen=True)
class ExportInterface:
    """Inputs and outputs of the exported graph: their names, dimensions and types, and the opset."""

    axes: Axes
    input_name: str
    output_names: tuple[str, ...]
    input_kind: InputKind = "float32"
    opset: int = 23


def onnx_from_module(module: nn.Module, interface: ExportInterface) -> ir.Model:
    """Export ``module`` and return a linted model whose values are named after its modules.

    Opset 23 keeps attention as one ``Attention`` node; opset 20 decomposes it for parsers that do not support it.

    Raises:
        DptError: PyTorch could not trace or export the module, or the lint found a defect of this program in the graph.
    """
    try:
        with torch.inference_mode(), known_resize_shapes(), _quiet():
            program = torch.onnx.export(
                _traced(module, interface),
                dynamo=True,
                opset_version=interface.opset,
                input_names=[interface.input_name],
                output_names=list(interface.output_names),
                optimize=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as exc:
        raise DptError(
            f"the ONNX exporter failed: {_first_line(exc)}", hint="please report it with the recipe"
        ) from exc
    if program is None:
        raise DptError("the ONNX exporter returned nothing", hint="please report it with the recipe")
    model = program.model
    _declare_dims(model, interface)
    name_after_modules(model)
    lint(model, interface.axes.traced_numbers(), interface.axes.free)
    _forget_inferred(model)
    return model


def _traced(module: nn.Module, interface: ExportInterface) -> ExportedProgram:
    try:
        return program_of(module, _example(interface), _dynamic_shapes(interface))
    except DptError:
        raise
    except Exception as exc:  # whatever PyTorch, or the code of a network that somebody added, raises
        raise DptError(f"PyTorch cannot trace it: {_first_line(exc)}", hint="please report it with the recipe") from exc


def _example(interface: ExportInterface) -> torch.Tensor:
    size, batch = interface.axes.trace_size, interface.axes.trace_batch
    if interface.input_kind == "uint8":
        return torch.zeros((batch, size.height, size.width, 3), dtype=torch.uint8)
    return torch.zeros((batch, 3, size.height, size.width))


def _spatial_dims(interface: ExportInterface) -> tuple[int, int]:
    return (1, 2) if interface.input_name == INPUT_UINT8 else (2, 3)


def _dynamic_shapes(interface: ExportInterface) -> tuple[dict[int, object]] | None:
    axes = interface.axes
    if not axes.free:
        return None
    dims: dict[int, object] = {0: Dim(BATCH, min=1, max=MAX_BATCH)}
    if not axes.static:
        vertical, horizontal = _spatial_dims(interface)
        dims[vertical] = axes.stride * Dim("height_in_strides", min=1, max=MAX_SIDE // axes.stride)
        dims[horizontal] = axes.stride * Dim("width_in_strides", min=1, max=MAX_SIDE // axes.stride)
    return (dims,)


def _declare_dims(model: ir.Model, interface: ExportInterface) -> None:
    """Give the symbolic dimensions of inputs and outputs their public names."""
    (value,) = model.graph.inputs
    shape, places = _shape(value), (0, *_spatial_dims(interface))
    names = {str(shape[at]): name for at, name in zip(places, interface.axes.free, strict=False)}
    for tensor in (*model.graph.inputs, *model.graph.outputs):
        dims = _shape(tensor)
        tensor.shape = ir.Shape([dim if isinstance(dim, int) else names.get(str(dim), str(dim)) for dim in dims])


def _forget_inferred(model: ir.Model) -> None:
    """Remove intermediate shapes: they use the exporter's own symbols, and every reader infers its own."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None


def _shape(value: ir.Value) -> ir.Shape:
    if value.shape is None:
        raise DptError(f"the exporter gave {value.name!r} no shape", hint="please report it with the recipe")
    return value.shape


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which prints progress and warns about its own internals; errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
