"""Options of an export: their checks, and the search for an artefact that answers them already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dpt_deploy.artifact.records import Shapes, approximation_title
from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import Artifact, open_artifact, read_sidecar, sidecar_path
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.precision import CLIPPING_METHODS, FP32, find_precision
from dpt_deploy.core.recipe import Recipe, load_recipe, zoo_names
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import InputKind, ModelSpec
from dpt_deploy.core.task import Task, tasks_of
from dpt_deploy.graph.exporter import OPSETS
from dpt_deploy.jobs.common.limits import check_memory
from dpt_deploy.jobs.export.calibration import check_sizes, from_scenes
from dpt_deploy.model.rewrites.registry import find_approximation

APPROXIMATION_LIMIT = 0.01  # of the change of the result, without --budget


@dataclass(frozen=True)
class Approximation:
    """An approximate rewrite of the network: its name in :mod:`dpt_deploy.model.rewrites.registry`, and its numbers."""

    name: str
    values: tuple[float, ...]

    @property
    def parameters(self) -> dict[str, float]:
        """Keyword arguments of the rewrite; raises :class:`UsageError` if it is unknown or takes others."""
        names = find_approximation(self.name).parameters
        if len(names) != len(self.values):
            raise UsageError(
                f"approximation {self.name!r} has {len(self.values)} numbers; expected {', '.join(names)}",
                hint=f"--approximate {self.name}={','.join(name.upper() for name in names)}",
            )
        return dict(zip(names, self.values, strict=True))

    def __str__(self) -> str:
        return approximation_title(self.name, self.parameters)


@dataclass(frozen=True)
class ExportRequest:
    """Options of one export.

    Attributes:
        recipe: the network, its image rule and its tolerances; see :func:`dpt_deploy.core.recipe.load_recipe`.
        weights: a checkpoint file, a Hugging Face folder, a published name, ``random`` or ``random:SEED``; None: the
            weights that belong to the recipe.
        commercial: refuse weights that may not be used commercially, and warn where that is unclear.
        entry: one of several networks in a training checkpoint, such as ``model_ema``; empty: the usual one.
        precision: number format of the graph. ``int8`` makes two artefacts from one calibration: ``int8`` for engines
            and ``int8-cpu`` for ONNX Runtime.
        opset: ONNX opset; None: the recipe's.
        input_kind: ``float32`` (normalised RGB) or ``uint8`` (normalisation inside the graph).
        output_kind: ``scores`` or, for segmentation, ``labels``.
        static: the only size of a graph without dynamic axes; None: any batch, and every size that the network takes.
        calibration: folder of photographs to measure tensor ranges on; None: rendered scenes.
        res: sizes to measure ranges at; empty: the training size and 5/3 of it.
        method: rule that chooses where 8-bit tensors are clipped.
        budget: largest relative increase of the error. Blocks are left unquantised to meet it. None: no limit for
            quantised graphs, 1 % for an approximation.
        smooth: try to move the spread of channels behind norms into weights before quantisation; it is kept only
            where the error is lower.
        approximation: an approximate rewrite of the network; None: only exact ones.
        allow_poor: accept a quantised file that is slower or has much noise, and an approximation of any error.
    """

    recipe: Recipe
    weights: Path | str | None = None
    entry: str = ""
    commercial: bool = False
    precision: str = FP32
    opset: int | None = None
    input_kind: InputKind = "float32"
    output_kind: str = "scores"
    static: Size | None = None
    calibration: Path | str | None = None
    res: tuple[Size, ...] = ()
    method: str = CLIPPING_METHODS[0]
    budget: float | None = None
    smooth: bool = False
    approximation: Approximation | None = None
    allow_poor: bool = False

    @property
    def graph_opset(self) -> int:
        """ONNX opset of the graph."""
        return self.recipe.opset if self.opset is None else self.opset

    @property
    def only_size(self) -> Size | None:
        """The one size that the graph takes; None where it takes many."""
        return self.static or self.recipe.model.only_size

    @property
    def variants(self) -> tuple[ExportRequest, ...]:
        """Requests of the single files that this one writes: INT8 comes as two."""
        return tuple(replace(self, precision=name) for name in find_precision(self.precision).files)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the outputs, in their order."""
        return tasks_of(self.recipe.model, labels=self.output_kind == "labels")

    @property
    def stem(self) -> str:
        """File name without suffix; every option that changes the graph shows in it."""
        model = self.recipe.model
        parts = [self.recipe.name]
        parts += [f"seg{model.num_classes}"] if model.task == "segmentation" else []
        parts += self._joint_part()
        parts += ["sky"] if model.sky else []
        parts += [self.precision]
        parts += [str(self.approximation)] if self.approximation else []
        parts += [f"{self.static.height}x{self.static.width}"] if self.static else []
        parts += [f"opset{self.opset}"] if self.graph_opset != self.recipe.opset else []
        parts += [kind for kind in (self.input_kind, self.output_kind) if kind in ("uint8", "labels")]
        return "-".join(parts)

    def _joint_part(self) -> list[str]:
        """Part of the file name for scores of classes, or for depth without those of the recipe's own network."""
        model, name = self.recipe.model, self.recipe.name
        own = load_recipe(name).model if name in zoo_names() else model.depth_alone()
        if not model.has_joint_scores:
            return ["depth"] if model.task == "depth" and own.has_joint_scores else []
        return [] if own.has_joint_scores and own.num_classes == model.num_classes else [f"both{model.num_classes}"]


def check_export(request: ExportRequest) -> None:
    """Check that the request can be honoured.

    Raises:
        UsageError: an option that the model or this version cannot honour.
        BadFileError: the recipe lacks what the request needs.
        ResourceError: a static size that no memory holds.
    """
    if request.graph_opset not in OPSETS:
        raise UsageError(
            f"opset {request.graph_opset} is not offered; expected one of {', '.join(map(str, OPSETS))}",
            hint="23 keeps fused attention; 20 decomposes it for TensorRT before 10.14 and JetPack 6",
        )
    find_precision(request.precision)
    if (approximation := request.approximation) is not None:
        size = request.only_size or Size(request.recipe.image.height, request.recipe.image.width)
        find_approximation(approximation.name).check(request.recipe.model, size, **approximation.parameters)
    _check_calibration(request)
    for each in request.variants:
        if each.precision not in request.recipe.parity:
            raise BadFileError(
                f"recipe {request.recipe.name!r} states no tolerance for {each.precision}",
                hint=f"add a table [parity.{each.precision}] with max, mean and disagreement",
            )
    if request.output_kind == "labels" and request.recipe.model.task != "segmentation":
        raise UsageError("--output labels needs a segmentation model", hint="add --task segmentation")
    if request.output_kind == "labels" and request.recipe.model.joint:
        raise UsageError("--output labels needs a model with one output", hint="leave --output out")
    if request.static:
        request.recipe.model.check_size(request.static)
        check_memory(request.recipe.model, request.static)


def _check_calibration(request: ExportRequest) -> None:
    measured = request.precision != FP32 or request.approximation is not None
    if not measured and (request.calibration or request.res):
        raise UsageError(
            "--calibration and --res choose the images for measurements; an fp32 graph needs none",
            hint="leave them out, or give --precision or --approximate",
        )
    if request.method not in CLIPPING_METHODS:
        raise UsageError(f"--method {request.method!r} is unknown", hint=f"known: {', '.join(CLIPPING_METHODS)}")
    is_quantised = find_precision(request.precision).quantised is not None
    if not is_quantised and (request.method != CLIPPING_METHODS[0] or request.smooth):
        raise UsageError(
            f"--method and --smooth are options of quantisation; {request.precision} has none",
            hint="leave them out, or give --precision int8 or fp8",
        )
    if request.budget is not None and not is_quantised and request.approximation is None:
        raise UsageError(
            f"--budget limits the loss of quantisation or of an approximation; {request.precision} has none",
            hint="leave it out, or give --precision int8 or fp8",
        )
    if request.budget is not None and not 0.0 < request.budget < 1.0:
        raise UsageError(f"--budget {request.budget:g} is not a share", hint="give one in (0, 1), for example 0.01")


def refuse_random_over_trained(path: Path, source: WeightsSource) -> None:
    """Refuse to replace an artefact with trained weights by one with random weights.

    Raises:
        UsageError: ``path`` has trained weights and ``source`` is random.
    """
    try:
        trained = sidecar_path(path).is_file() and not read_sidecar(path).weights.is_random
    except BadFileError:
        return
    if trained and source.is_random:
        raise UsageError(
            f"{path} has trained weights; random ones would replace it", hint="write to another folder, or give --force"
        )


def finished(path: Path, request: ExportRequest, source: WeightsSource, spec: ModelSpec) -> Artifact | None:
    """Return the artefact at ``path`` if it is whole and answers this request."""
    if not sidecar_path(path).is_file():
        return None
    try:
        artifact = open_artifact(path)
    except BadFileError:
        return None
    have = artifact.sidecar
    same_weights = all(
        getattr(have.weights, name) == getattr(source, name) for name in ("kind", "sha256", "seed", "entry")
    )
    same_tools = have.tools == tool_versions()
    same_graph = (have.precision, have.opset, have.input_kind, have.shapes) == (
        request.precision,
        request.graph_opset,
        request.input_kind,
        shapes_of(request),
    )
    recipe = request.recipe
    asked = [(task.name, recipe.parity[request.precision]) for task in request.tasks]
    same_outputs = [(output.task, output.tolerance) for output in have.outputs] == asked
    same_recipe = same_outputs and (have.model, have.image, have.verify) == (spec, recipe.image, recipe.verify)
    if have.parity is not None and not have.parity.verified:
        return None
    if not _same_approximation(have, request):
        return None
    if request.precision != FP32 and not _same_calibration(have, request):
        return None
    return artifact if same_weights and same_tools and same_graph and same_recipe else None


def _same_approximation(have: Sidecar, request: ExportRequest) -> bool:
    found = have.approximation
    if request.approximation is None or found is None:
        return request.approximation is None and found is None
    limit = APPROXIMATION_LIMIT if request.budget is None else request.budget
    asked = request.approximation
    return (found.name, found.parameters, found.limit) == (asked.name, asked.parameters, limit)


def _same_calibration(have: Sidecar, request: ExportRequest) -> bool:
    """Compare the images and options of calibration; a folder may hold other images by now, so it never matches."""
    sizes = check_sizes(request.res, request.recipe, request.only_size)
    default = have.ranges is not None and (have.ranges.source, have.ranges.sizes) == (
        from_scenes().source,
        tuple(map(str, sizes)),
    )
    quantised = have.quantisation
    same_method = quantised is None or (quantised.method, quantised.budget, quantised.smooth) == (
        request.method,
        request.budget,
        request.smooth,
    )
    return default and same_method and not request.calibration


def shapes_of(request: ExportRequest) -> Shapes:
    """Return the sizes that the graph will accept."""
    size = request.only_size
    static = (size.height, size.width) if size else None
    return Shapes(request.recipe.model.stride, static, any_batch=static is not None and request.static is None)
