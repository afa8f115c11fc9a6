"""Steps of an export: the FP32 graph, golden tensors, and the sidecar. Payloads are written in between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import nn

from dpt_deploy.artifact.records import (
    ApproximationRecord,
    OperationRecord,
    OutputRecord,
    Shapes,
    TypeLossRecord,
)
from dpt_deploy.artifact.sidecar import ONNX, Sidecar, WeightsSource
from dpt_deploy.artifact.store import payload_of
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, INPUT_UINT8, ImageSpec, ModelSpec
from dpt_deploy.graph.analysis.describe import describe
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import count_operations
from dpt_deploy.graph.axes import axes_of
from dpt_deploy.graph.exporter import ExportInterface, onnx_from_module
from dpt_deploy.jobs.common.inputs import parity_images
from dpt_deploy.jobs.common.reference import reference_outputs
from dpt_deploy.jobs.export.facts import GraphFacts
from dpt_deploy.jobs.export.request import ExportRequest, shapes_of
from dpt_deploy.jobs.verify.golden import golden_arrays, golden_size
from dpt_deploy.jobs.verify.type_loss import type_losses
from dpt_deploy.model.build import count_reference_operations
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.rewrites.exact import LabelsOutput, Uint8Input
from dpt_deploy.model.rewrites.registry import exactly_rewritten

OPERATIONS_SIZE = Size(384, 384)  # at which operations are counted, as in the paper


@dataclass(frozen=True)
class GoldenTensors:
    """Evidence from PyTorch.

    ``images`` (B, H, W, 3) are bytes, ``outputs`` are the reference's outputs for them by name, and ``type_losses`` is
    what PyTorch loses in the 16 bits of the precision, by output.
    """

    images: np.ndarray
    outputs: Tensors
    type_losses: dict[str, TypeLossRecord]


@dataclass(frozen=True)
class _Expected:
    """The part of a sidecar that golden tensors depend on; it is known before the graph is written."""

    precision: str
    image: ImageSpec
    shapes: Shapes
    outputs: tuple[OutputRecord, ...]


def fp32_graph(model: DPT, request: ExportRequest) -> ir.Model:
    """Apply the exact rewrites to ``model`` and export it. The graph shares its weights with ``model``."""
    spec = request.recipe.model
    module: nn.Module = exactly_rewritten(model)
    if request.input_kind == "uint8":
        module = Uint8Input(module, request.recipe.image)
    if request.output_kind == "labels":
        module = LabelsOutput(module)
    interface = ExportInterface(
        axes=axes_of(spec, request.static, model.encoder.constants),
        input_name=INPUT_UINT8 if request.input_kind == "uint8" else INPUT_FLOAT,
        output_names=tuple(task.output for task in request.tasks),
        input_kind=request.input_kind,
        opset=request.graph_opset,
    )
    return onnx_from_module(module, interface)


def golden(model: DPT, graph: ir.Model, request: ExportRequest) -> GoldenTensors:
    """Run ``model`` in PyTorch on golden images. All files of one request share the result.

    It is the last step that needs the network: release it before the graph is typed, because a second copy of large
    weights is about to be made.
    """
    expected = _Expected(request.precision, request.recipe.image, shapes_of(request), _outputs(graph, request))
    batch, size = golden_size(expected)
    images = parity_images(request.precision, batch, size)
    outputs = reference_outputs(model, expected, images)
    return GoldenTensors(images, outputs, type_losses(model, expected, images, outputs))


def describe_artifact(
    path: Path,
    request: ExportRequest,
    spec: ModelSpec,
    source: WeightsSource,
    facts: GraphFacts,
    evidence: GoldenTensors,
    approximation: ApproximationRecord | None = None,
) -> Sidecar:
    """Write the golden tensors next to the graph at ``path``, and describe all files.

    Raises:
        BadFileError: the graph is not what an exported one should be.
        ResourceError: disk or memory.
    """
    golden_path = path.with_name(path.name + ".golden.npz")
    with write_errors(golden_path), golden_path.open("wb") as stream:
        np.savez(stream, **golden_arrays(evidence.images, evidence.outputs))  # type: ignore[arg-type]
    # The graph is read back from disk: the sidecar describes the file that is shipped, not the object in memory.
    opened = OpenedGraph(path)
    found, tolerance = describe(opened), request.recipe.parity[request.precision]
    files = [entry for entry in (path, path.with_name(path.name + ".data"), golden_path) if entry.is_file()]
    return Sidecar(
        kind=ONNX,
        payloads=tuple(payload_of(entry) for entry in files),
        parents=(),
        tools=tool_versions(),
        model=spec,
        image=request.recipe.image,
        weights=source,
        precision=request.precision,
        opset=found.opset,
        input_kind=request.input_kind,
        inputs=found.inputs,
        outputs=tuple(
            OutputRecord(
                output.name,
                output.dtype,
                output.shape,
                task.name,
                tolerance,
                evidence.type_losses.get(output.name),
            )
            for output, task in zip(found.outputs, request.tasks, strict=True)
        ),
        shapes=shapes_of(request),
        verify=request.recipe.verify,
        operations=_count_operations(opened, request, spec),
        islands=facts.fp32_nodes,
        ranges=facts.ranges,
        quantisation=facts.quantisation,
        approximation=approximation,
        golden=golden_path.name,
    )


def _outputs(graph: ir.Model, request: ExportRequest) -> tuple[OutputRecord, ...]:
    """Outputs of the graph in memory; names and ranks are all that the reference needs."""
    tolerance = request.recipe.parity[request.precision]
    return tuple(
        OutputRecord(str(value.name), str(value.dtype).lower(), task.shape, task.name, tolerance)
        for value, task in zip(graph.graph.outputs, request.tasks, strict=True)
    )


def _count_operations(opened: OpenedGraph, request: ExportRequest, spec: ModelSpec) -> OperationRecord:
    size = request.only_size or OPERATIONS_SIZE
    return OperationRecord(str(size), count_operations(opened, size).total, count_reference_operations(spec, size))
