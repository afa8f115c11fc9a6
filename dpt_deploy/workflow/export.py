"""Checkpoint to a verified ONNX artefact: load, rewrite, export, check, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from dpt_deploy.core.artifact import (
    Artifact,
    Sidecar,
    WeightsSource,
    open_artifact,
    payload_of,
    read_sidecar,
    sidecar_path,
)
from dpt_deploy.core.environment import processor, tool_versions
from dpt_deploy.core.errors import BadFileError, ParityError, UsageError
from dpt_deploy.core.files import check_folder, write_errors
from dpt_deploy.core.optional import extra
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.core.record import OperationRecord, Shapes
from dpt_deploy.core.spec import (
    HALF,
    INPUT_FLOAT,
    INPUT_UINT8,
    OUTPUT_LABELS,
    InputKind,
    ModelSpec,
    Size,
    Task,
    TensorSpec,
    check_size,
)
from dpt_deploy.core.staging import commit, staged
from dpt_deploy.parity.samples import normalised, structured_images
from dpt_deploy.workflow.calibration import check_sizes, from_folder, from_scenes
from dpt_deploy.workflow.feeds import check_memory, reference_input
from dpt_deploy.workflow.precision import Typing, save_graph, type_graph
from dpt_deploy.workflow.reference import Progress, build_reference, resolve_weights

if TYPE_CHECKING:
    import onnx_ir as ir

    from dpt_deploy.model.dpt import DPT

GOLDEN_MULTIPLES = (3, 4)  # of the stride: small, not square
GOLDEN_BATCH = 2
REPORT_SIZE = Size(384, 384)  # at which operations are counted, as in the paper
PRECISIONS = ("fp32", *HALF)

Talk = Callable[[str], None]


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked for, resolved: the identity of an artefact."""

    recipe: Recipe
    precision: str = "fp32"
    opset: int = 23
    input_kind: InputKind = "float32"
    output_kind: str = "scores"
    static: Size | None = None
    calibration: Path | None = None
    res: tuple[Size, ...] = ()

    @property
    def stem(self) -> str:
        """File name without suffix; every option that changes the graph shows in it."""
        model = self.recipe.model
        parts = [self.recipe.name]
        parts += [f"seg{model.num_classes}"] if model.task == "segmentation" else []
        parts += [self.precision]
        parts += [f"{self.static.height}x{self.static.width}"] if self.static else []
        parts += [f"opset{self.opset}"] if self.opset != self.recipe.opset else []
        parts += [kind for kind in (self.input_kind, self.output_kind) if kind in ("uint8", "labels")]
        return "-".join(parts)


def export_model(
    backbone: str,
    out: Path,
    *,
    weights: str | None = None,
    task: Task | None = None,
    classes: int | None = None,
    precision: str = "fp32",
    opset: int | None = None,
    static: Size | None = None,
    input_kind: InputKind = "float32",
    output_kind: str = "scores",
    calibration: Path | None = None,
    res: Iterable[Size] = (),
    force: bool = False,
    say: Talk = lambda _line: None,
    progress: Progress | None = None,
    keys: Callable[[Iterable[str]], None] = lambda _lines: None,
) -> Artifact:
    """Export a zoo model or recipe to ``out`` and verify it; return the finished artefact.

    An artefact of the same request and weights that stands there already is returned as it is, unless ``force``.
    ``keys`` is told what became of every key of the checkpoint. Which nodes of a 16-bit graph stay FP32 is chosen by
    the ranges of its tensors on the images of ``calibration`` (default: a few rendered scenes) at the sizes ``res``
    (default: the size of training, and 5/3 of it).

    Raises:
        UsageError: an option that the model or this version cannot honour.
        BadFileError: the checkpoint is unusable.
        ParityError: the exported graph does not agree with PyTorch; nothing is written.
        ResourceError: disk, memory or network.
    """
    recipe = load_recipe(backbone, task=task, classes=classes)
    request = ExportRequest(
        recipe,
        precision,
        recipe.opset if opset is None else opset,
        input_kind,
        output_kind,
        static,
        calibration,
        tuple(res),
    )
    _check(request)
    check_folder(out)  # before anything is downloaded
    source = resolve_weights(weights, recipe, progress)
    path = out / f"{request.stem}.onnx"
    say(f"weights: {source}")
    model, source, report = build_reference(recipe.model, source)
    if report is not None:
        keys(report.lines())
        say(str(report))
    if not force and (done := _finished(path, request, source, model.spec)):
        say(f"{path} is up to date (--force exports it again)")
        return done
    if not force:
        _refuse_random_over_trained(path, source)
    with staged(path) as folder:
        say("exporting")
        sidecar = _write_payloads(model, request, source, folder / path.name, say)
        say("comparing with PyTorch")
        del model  # the golden tensors stand in for it; a second copy of large weights is about to be loaded
        sidecar = _with_first_parity(sidecar, folder / path.name, say)
        return commit(path, folder, sidecar)


def _check(request: ExportRequest) -> None:
    with extra("export", purpose="exporting"):
        from dpt_deploy.graph.exporter import OPSETS
    if request.opset not in OPSETS:
        raise UsageError(
            f"opset {request.opset} is not offered; expected one of {', '.join(map(str, OPSETS))}",
            hint="23 keeps attention whole; 20 decomposes it for TensorRT before 10.14 and JetPack 6",
        )
    if request.precision not in PRECISIONS:
        raise UsageError(
            f"precision {request.precision!r} is not available in this version",
            hint=f"available: {', '.join(PRECISIONS)}",
        )
    if request.precision == "fp32" and (request.calibration or request.res):
        raise UsageError(
            "--calibration and --res choose what ranges are measured on; an fp32 graph needs none",
            hint="leave them out, or give --precision",
        )
    if request.precision not in request.recipe.parity:
        raise BadFileError(
            f"recipe {request.recipe.name!r} states no tolerance for {request.precision}",
            hint=f"add a table [parity.{request.precision}] with max, mean and disagreement",
        )
    if PureWindowsPath(request.stem).name != request.stem:
        raise BadFileError(
            f"the recipe's name {request.recipe.name!r} is not the name of a file", hint="leave slashes and colons out"
        )
    if request.output_kind == "labels" and request.recipe.model.task != "segmentation":
        raise UsageError("--output labels needs a segmentation model", hint="add --task segmentation")
    if request.static:
        check_size(request.static, stride=request.recipe.model.stride)
        check_memory(request.recipe.model, request.static)


def _refuse_random_over_trained(path: Path, source: WeightsSource) -> None:
    """Work with random weights must not cost an artefact that has learned something."""
    try:
        trained = sidecar_path(path).is_file() and not read_sidecar(path).weights.is_random
    except BadFileError:
        return
    if trained and source.is_random:
        raise UsageError(
            f"{path} has trained weights; random ones would replace it", hint="write to another folder, or give --force"
        )


def _finished(path: Path, request: ExportRequest, source: WeightsSource, spec: ModelSpec) -> Artifact | None:
    """The artefact at ``path`` if it is whole and answers this very request."""
    if not sidecar_path(path).is_file():
        return None
    try:
        artifact = open_artifact(path)
    except BadFileError:
        return None
    have = artifact.sidecar
    same_weights = (have.weights.kind, have.weights.sha256, have.weights.seed) == (
        source.kind,
        source.sha256,
        source.seed,
    )
    same_tools = have.tools == tool_versions()
    same_graph = (have.precision, have.opset, have.input_kind, have.output_kind, have.shapes) == (
        request.precision,
        request.opset,
        request.input_kind,
        request.output_kind,
        _shapes(request),
    )
    recipe = request.recipe
    same_recipe = (have.model, have.image, have.tolerance, have.verify) == (
        spec,
        recipe.image,
        recipe.parity[request.precision],
        recipe.verify,
    )
    if have.parity is not None and not have.parity.verified:
        return None
    if request.precision in HALF and not _same_ranges(have, request):
        return None
    return artifact if same_weights and same_tools and same_graph and same_recipe else None


def _same_ranges(have: Sidecar, request: ExportRequest) -> bool:
    """Whether ranges were measured where this request would measure them; a folder may hold other images by now."""
    sizes = check_sizes(request.res, request.recipe, request.static)
    default = have.ranges is not None and (have.ranges.source, have.ranges.sizes) == (
        from_scenes().source,
        tuple(map(str, sizes)),
    )
    return default and not request.calibration


def _shapes(request: ExportRequest) -> Shapes:
    static = request.static
    return Shapes(request.recipe.model.stride, (static.height, static.width) if static else None)


def _write_payloads(model: DPT, request: ExportRequest, source: WeightsSource, path: Path, say: Talk) -> Sidecar:
    """Export into the staging folder: the graph, its external weights if large, and golden tensors."""
    from dpt_deploy.graph.axes import Axes
    from dpt_deploy.graph.exporter import ExportPlan, onnx_from_module
    from dpt_deploy.model.deploy import LabelsOutput, Uint8Input, deployable

    module: Any = deployable(model)
    if request.input_kind == "uint8":
        module = Uint8Input(module, request.recipe.image)
    if request.output_kind == "labels":
        module = LabelsOutput(module)
    plan = ExportPlan(
        axes=Axes(request.recipe.model.stride, request.static),
        input_name=INPUT_UINT8 if request.input_kind == "uint8" else INPUT_FLOAT,
        output_name=OUTPUT_LABELS if request.output_kind == "labels" else request.recipe.model.output_name,
        input_kind=request.input_kind,
        opset=request.opset,
    )
    graph = onnx_from_module(module, plan)
    typing = _type(graph, request, path.parent, say) if request.precision in HALF else None
    save_graph(graph, path)
    del graph, module
    sidecar = _describe(request, source, path, model)
    if typing:
        sidecar = replace(sidecar, islands=typing.islands, ranges=typing.ranges)
    return _with_golden(model, sidecar, path)


def _type(graph: ir.Model, request: ExportRequest, folder: Path, say: Talk) -> Typing:
    """Turn an FP32 graph into a 16-bit one, by ranges measured on images."""
    image = request.recipe.image
    calibration = from_folder(request.calibration, say) if request.calibration else from_scenes()
    sizes = check_sizes(request.res, request.recipe, request.static)

    def feed(pixels: np.ndarray) -> dict[str, np.ndarray]:
        if request.input_kind == "uint8":
            return {INPUT_UINT8: pixels}
        return {INPUT_FLOAT: normalised(pixels, image.mean, image.std)}

    return type_graph(graph, request.precision, calibration, sizes, feed, folder=folder, say=say)


def _describe(request: ExportRequest, source: WeightsSource, path: Path, model: DPT) -> Sidecar:
    from dpt_deploy.graph.describe import describe

    found = describe(path)
    files = [entry for entry in (path, path.with_name(path.name + ".data")) if entry.is_file()]
    return Sidecar(
        kind="onnx",
        payloads=tuple(payload_of(entry) for entry in files),
        parents=(),
        tools=tool_versions(),
        model=model.spec,
        image=request.recipe.image,
        weights=source,
        precision=request.precision,
        opset=found.opset,
        input_kind=request.input_kind,
        output_kind=request.output_kind,
        inputs=found.inputs,
        outputs=found.outputs,
        shapes=_shapes(request),
        tolerance=request.recipe.parity[request.precision],
        verify=request.recipe.verify,
        operations=_operations(request, path, model),
    )


def _operations(request: ExportRequest, path: Path, model: DPT) -> OperationRecord:
    from dpt_deploy.graph.operations import count_operations
    from dpt_deploy.model.zoo import count_reference_operations

    size = request.static or REPORT_SIZE
    graph, original = count_operations(path, size).total, count_reference_operations(model.spec, size)
    return OperationRecord(str(size), graph, original)


def golden_size(sidecar: Sidecar) -> tuple[int, Size]:
    """Batch and size of the golden tensors."""
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    high, wide = GOLDEN_MULTIPLES
    return (1, static) if static else (GOLDEN_BATCH, Size(high * stride, wide * stride))


def _with_golden(model: DPT, sidecar: Sidecar, path: Path) -> Sidecar:
    """Store an input and the reference's output, so that a target without PyTorch can verify itself."""
    batch, size = golden_size(sidecar)
    images = structured_images(batch, size.height, size.width)
    reference = reference_output(model, sidecar, images)
    golden = path.with_name(path.name + ".golden.npz")
    with write_errors(golden), golden.open("wb") as stream:
        np.savez_compressed(stream, images=images, output=reference)
    return replace(sidecar, golden=golden.name, payloads=(*sidecar.payloads, payload_of(golden)))


def reference_output(model: DPT, sidecar: Sidecar, images: np.ndarray) -> np.ndarray:
    """What PyTorch makes of ``images``, in the form the artefact returns it (labels where it returns labels)."""
    from dpt_deploy.runtime.torch_runner import TorchRunner

    inputs = [TensorSpec(INPUT_FLOAT, "float32", ("batch", 3, "height", "width"))]
    with TorchRunner(model, inputs, sidecar.outputs) as runner:
        (output,) = runner.infer(reference_input(sidecar, images)).values()
    return output.argmax(axis=1).astype(np.int32) if sidecar.output_kind == "labels" else output


def _with_first_parity(sidecar: Sidecar, path: Path, say: Talk) -> Sidecar:
    """Compare at the golden size before anything is committed; the full matrix is ``verify``."""
    from dpt_deploy.runtime import registry
    from dpt_deploy.workflow.runners import judge_of
    from dpt_deploy.workflow.verify import golden_report, measured_error

    if not registry.available("ort"):
        say("onnxruntime is not installed: not verified (pip install -e '.[ort]', then dpt-deploy verify)")
        return sidecar
    report = golden_report(sidecar, path)
    if not report.passed:
        worst = report.failures[0]
        raise ParityError(
            f"the exported graph does not agree with PyTorch at {worst.size}, batch {worst.batch}: "
            f"{measured_error(worst, report.tolerance)}; nothing was written",
            hint="please report it with the recipe",
        )
    measured = report.record(matrix=False, runtime=judge_of(sidecar), tools=tool_versions(), processor=processor())
    return replace(sidecar, parity=measured)
