"""What an artefact is made of: the graph in its precision, golden tensors, and the sidecar that describes them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpt_deploy.artifact.records import OperationRecord, OutputRecord, QuantisationRecord, TypeLossRecord
from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import payload_of
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, INPUT_UINT8, ModelSpec
from dpt_deploy.jobs.common.inputs import parity_images
from dpt_deploy.jobs.common.reference import reference_outputs
from dpt_deploy.jobs.common.samples import normalised
from dpt_deploy.jobs.export import worth
from dpt_deploy.jobs.export.calibration import Calibration, check_sizes, from_folder, from_scenes
from dpt_deploy.jobs.export.quantised import CalibrationTable, calibrate, check_worth, quantised, smoothed
from dpt_deploy.jobs.export.request import ExportRequest, shapes_of
from dpt_deploy.jobs.export.typed import save_graph, type_graph
from dpt_deploy.jobs.verify.golden import golden_arrays, golden_size
from dpt_deploy.scenes.seeds import ACCURACY_SEARCH

if TYPE_CHECKING:
    import onnx_ir as ir

    from dpt_deploy.graph.analysis.opened import OpenedGraph
    from dpt_deploy.model.dpt import DPT

REPORT_SIZE = Size(384, 384)  # at which operations are counted, as in the paper


class Work:
    """What the files of one request are made from. It is made once, and serves every flavour of a quantised graph;
    ``folder`` holds files of a moment."""

    def __init__(
        self, model: DPT, request: ExportRequest, source: WeightsSource, folder: Path, *, allow_slower: bool
    ) -> None:
        self.request, self.source, self.spec = request, source, model.spec
        self._model, self._folder, self._allow_slower = model, folder, allow_slower
        self._golden: tuple[np.ndarray, Tensors, dict[str, TypeLossRecord]] | None = None

    @cached_property
    def graph(self) -> ir.Model:
        """The FP32 graph."""
        from dpt_deploy.graph.axes import Axes
        from dpt_deploy.graph.exporter import ExportInterface, onnx_from_module
        from dpt_deploy.model.rewrites.exact import LabelsOutput, Uint8Input, deployable

        request = self.request
        module: Any = deployable(self._model)
        if request.input_kind == "uint8":
            module = Uint8Input(module, request.recipe.image)
        if request.output_kind == "labels":
            module = LabelsOutput(module)
        plan = ExportInterface(
            axes=Axes(request.recipe.model.stride, request.static),
            input_name=INPUT_UINT8 if request.input_kind == "uint8" else INPUT_FLOAT,
            output_name=request.task.output,
            input_kind=request.input_kind,
            opset=request.graph_opset,
        )
        return onnx_from_module(module, plan)

    @cached_property
    def quantisable(self) -> tuple[ir.Model, int]:
        """The FP32 graph that is quantised, and at how many norms it was smoothed."""
        if not self.request.smooth:
            return self.graph, 0
        limit = self.request.recipe.parity["fp32"].max
        return smoothed(self.graph, self.bench.full, self.calibration, self.sizes, self.feed, limit)

    @cached_property
    def table(self) -> CalibrationTable:
        """The calibration of a quantised graph, with as much kept as the budget asks for."""
        from dpt_deploy.jobs.export.budget import within_budget

        request, full = self.request, self._folder / "quantise.onnx"
        save_graph(self.quantisable[0], full)
        table = calibrate(full, self.calibration, self.sizes, self.feed, request.method)
        if request.budget is None:
            return table
        first = request.flavours[0].precision
        search, verdict = self._bench(self._samples_of_search()), self.bench
        return within_budget(self.quantisable[0], first, table, search, verdict, request.budget, self._folder)

    @cached_property
    def bench(self) -> worth.TaskErrorBench:
        """FP32, to compare precisions with, on the images that the sidecar reports on."""
        if self.request.calibration:
            return self._bench(worth.from_photographs(self.calibration, self._size))
        return self._bench(worth.from_scenes(self._size, truth=self._learned))

    def _bench(self, samples: worth.Samples) -> worth.TaskErrorBench:
        full = self._folder / "full.onnx"
        if not full.exists():
            save_graph(self.graph, full)
        return worth.TaskErrorBench(full, samples, self.feed, self.request.task)

    def _samples_of_search(self) -> worth.Samples:
        """Images that blocks are chosen on for a budget: not those of the verdict, if there are enough of them."""
        if not self.request.calibration:
            return worth.from_scenes(self._size, truth=self._learned, first=ACCURACY_SEARCH.start)
        spare = self.calibration.count - worth.SCENES
        if spare <= 0:
            say(f"{self.calibration.count} images are too few to choose blocks on some and judge by others")
        return worth.from_photographs(self.calibration, self._size, skip=max(0, min(worth.SCENES, spare)))

    @property
    def _size(self) -> Size:
        image = self.request.recipe.image
        return self.request.static or Size(image.height, image.width)

    @property
    def _learned(self) -> bool:
        """Whether the network's depth can be held to the truth."""
        return self.spec.task == "depth" and not self.spec.metric and not self.source.is_random

    @cached_property
    def calibration(self) -> Calibration:
        """The images that ranges are measured on."""
        return from_folder(self.request.calibration) if self.request.calibration else from_scenes()

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes that ranges are measured at."""
        return check_sizes(self.request.res, self.request.recipe, self.request.static)

    def feed(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Bytes (B, H, W, 3) as the graph takes them."""
        if self.request.input_kind == "uint8":
            return {INPUT_UINT8: pixels}
        image = self.request.recipe.image
        return {INPUT_FLOAT: normalised(pixels, image.mean, image.std)}

    def write_graph(self, precision: str, path: Path) -> dict[str, Any]:
        """Write the graph in ``precision`` to ``path``; what its sidecar says of it."""
        kind = find_precision(precision)
        if kind.quantised:
            return self._write_quantised(precision, path)
        if not kind.is_half:
            save_graph(self.graph, path)
            return {}
        model = self.graph.clone()
        typing = type_graph(model, precision, self.calibration, self.sizes, self.feed, folder=self._folder)
        save_graph(model, path)
        return {"islands": typing.islands, "ranges": typing.ranges}

    def _write_quantised(self, precision: str, path: Path) -> dict[str, Any]:
        table = self.table
        save_graph(quantised(self.quantisable[0], precision, table), path)
        say(f"{precision}: comparing with fp32")
        kind = find_precision(precision)
        found = self.bench.worth(path, kind.reference_runtime)
        if kind.for_cpu:
            found = replace(found, speedup=self.bench.speedup(path))
        check_worth(precision, found, self.request.budget, allow_slower=self._allow_slower)
        return {
            "islands": table.islands if kind.for_engines else {},
            "ranges": table.ranges,
            "quantisation": QuantisationRecord(
                self.request.method,
                table.clip,
                table.kept,
                self.request.budget,
                found,
                self._twin(precision),
                self.request.smooth,
                self.quantisable[1],
            ),
        }

    def _twin(self, precision: str) -> str:
        others = [f"{each.stem}.onnx" for each in self.request.flavours if each.precision != precision]
        return others[0] if others else ""

    def golden(self, sidecar: Sidecar) -> tuple[np.ndarray, Tensors, dict[str, TypeLossRecord]]:
        """Images (B, H, W, 3) as bytes, what PyTorch makes of them, and what it loses in the type of the artefact. With
        that the network is let go: a second copy of large weights is about to be loaded."""
        from dpt_deploy.jobs.verify.type_loss import type_losses

        if self._golden is None:
            batch, size = golden_size(sidecar)
            images = parity_images(sidecar.precision, batch, size)
            reference = reference_outputs(self._model, sidecar, images)
            self._golden = images, reference, type_losses(self._model, sidecar, images, reference)
            del self._model
        return self._golden


def write_payloads(work: Work, request: ExportRequest, path: Path) -> Sidecar:
    """Write into the staging folder: the graph, its external weights if large, and golden tensors.

    Raises:
        BadFileError: a tensor is not finite in FP32, or no image can be read.
        ParityError: what came out is broken, over the budget, or slower than FP32.
        ResourceError: disk or memory.
    """
    found = work.write_graph(request.precision, path)
    sidecar = replace(_describe(work, request, path), **found)
    images, reference, lost = work.golden(sidecar)
    golden = path.with_name(path.name + ".golden.npz")
    with write_errors(golden), golden.open("wb") as stream:
        np.savez_compressed(stream, **golden_arrays(images, reference))  # type: ignore[arg-type]  # lacks **arrays
    sidecar = sidecar.with_type_losses(lost)
    return replace(sidecar, golden=golden.name, payloads=(*sidecar.payloads, payload_of(golden)))


def _describe(work: Work, request: ExportRequest, path: Path) -> Sidecar:
    from dpt_deploy.graph.analysis.describe import describe
    from dpt_deploy.graph.analysis.opened import OpenedGraph

    opened = OpenedGraph(path)  # from disk, as it will be shipped
    found, tolerance = describe(opened), request.recipe.parity[request.precision]
    files = [entry for entry in (path, path.with_name(path.name + ".data")) if entry.is_file()]
    return Sidecar(
        kind="onnx",
        payloads=tuple(payload_of(entry) for entry in files),
        parents=(),
        tools=tool_versions(),
        model=work.spec,
        image=request.recipe.image,
        weights=work.source,
        precision=request.precision,
        opset=found.opset,
        input_kind=request.input_kind,
        inputs=found.inputs,
        outputs=tuple(
            OutputRecord(output.name, output.dtype, output.shape, request.task.name, tolerance)
            for output in found.outputs
        ),
        shapes=shapes_of(request),
        verify=request.recipe.verify,
        operations=_operations(request, opened, work.spec),
    )


def _operations(request: ExportRequest, opened: OpenedGraph, spec: ModelSpec) -> OperationRecord:
    from dpt_deploy.graph.analysis.operations import count_operations
    from dpt_deploy.model.build import count_reference_operations

    size = request.static or REPORT_SIZE
    graph, original = count_operations(opened, size).total, count_reference_operations(spec, size)
    return OperationRecord(str(size), graph, original)
