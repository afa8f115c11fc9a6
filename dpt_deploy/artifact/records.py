"""Records of a sidecar: outputs, measurements, and how an engine was built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import Profile, ProfileTime
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.core.task import Task, task_named

TYPE_LOSS_TIMES = 3.0  # one rounding order against another: errors of both are single draws, at one of many sizes


@dataclass(frozen=True)
class TypeLossRecord:
    """Rounding errors of PyTorch itself when it computes the network in the 16 bits of ``type``.

    ``max`` and ``mean`` are of the golden images, over the output's range.
    """

    type: str
    max: float
    mean: float


@dataclass(frozen=True)
class OutputRecord(TensorSpec):
    """One output of an artefact.

    Attributes:
        task: name of its :class:`Task`.
        tolerance: the recipe's tolerance.
        type_loss: rounding errors of PyTorch in the artefact's type; None for FP32 and for labels.
    """

    task: str
    tolerance: Tolerance
    type_loss: TypeLossRecord | None = None

    @property
    def tensor(self) -> TensorSpec:
        """The tensor alone."""
        return TensorSpec(self.name, self.dtype, self.shape)

    @property
    def kind(self) -> Task:
        """The record of its task."""
        return task_named(self.task)

    @property
    def allowed(self) -> Tolerance:
        """The tolerance it is held to: the recipe's, or :data:`TYPE_LOSS_TIMES` the type loss if that is larger.

        Networks differ in how much they amplify rounding errors.
        """
        return self.tolerance if self.type_loss is None else loosened(self.tolerance, self.type_loss)


def loosened(tolerance: Tolerance, lost: TypeLossRecord) -> Tolerance:
    """``tolerance``, or :data:`TYPE_LOSS_TIMES` what was ``lost`` to rounding where that is larger."""
    return replace(
        tolerance,
        max=max(tolerance.max, TYPE_LOSS_TIMES * lost.max),
        mean=max(tolerance.mean, TYPE_LOSS_TIMES * lost.mean),
    )


@dataclass(frozen=True)
class CaseResult:
    """Agreement of one output for one batch at one size.

    ``max`` and ``mean`` are errors over the reference's range; None for labels. A candidate with NaN or infinity has no
    measurable error: it fails with a ``note``. ``held_to`` is the tolerance of this case where it differs from that of
    the whole comparison.
    """

    batch: int
    size: str
    passed: bool
    max: float | None = None
    mean: float | None = None
    abs_rel: float | None = None
    agreement: float | None = None
    note: str = ""
    held_to: Tolerance | None = None
    output: str = ""


@dataclass(frozen=True)
class ParityRecord:
    """A comparison with the reference: every case, the tolerance of each output, and where it ran.

    ``matrix`` is False for the one small case that every export is held to before it is written.
    """

    verified: bool
    matrix: bool
    runtime: str
    tolerances: dict[str, Tolerance]
    cases: tuple[CaseResult, ...]
    tools: dict[str, str] = field(default_factory=dict)
    processor: str = ""


@dataclass(frozen=True)
class OperationRecord:
    """Arithmetic operations of one image at ``size``: of the graph, and of the network as the paper draws it."""

    size: str
    graph: int
    original: int

    @property
    def saved(self) -> float:
        """Share of the original's operations that the graph does not need."""
        return 1.0 - self.graph / self.original


@dataclass(frozen=True)
class RangeRecord:
    """What the largest magnitudes of tensors were taken from: ``images`` from ``source`` at each of ``sizes``."""

    source: str
    images: int
    sizes: tuple[str, ...]
    largest: dict[str, float]  # tensor to its largest magnitude, in execution order


@dataclass(frozen=True)
class AccuracyRecord:
    """What a precision costs and gains beside FP32, on ``images`` from ``source`` at ``size``.

    ``drift`` is the distance to the output of FP32: AbsRel after affine alignment (depth), or the share of pixels with
    another label (segmentation). ``sqnr`` is the ratio of signal to quantisation noise in dB (None for labels). Where
    the truth is known: ``abs_rel`` and ``delta1`` of FP32 and of this precision. ``speedup``: times as fast as FP32 on
    ``runtime``, median of the turns and its 95 % interval; None where that runtime does not compute in this precision.
    """

    source: str
    images: int
    size: str
    runtime: str
    drift: float
    sqnr: float | None = None
    abs_rel: tuple[float, float] | None = None
    delta1: tuple[float, float] | None = None
    speedup: tuple[float, float, float] | None = None

    @property
    def change(self) -> float:
        """What counts against a budget: by how much AbsRel grew, relatively; the drift where there is no truth."""
        return self.drift if self.abs_rel is None else self.abs_rel[1] / self.abs_rel[0] - 1.0


@dataclass(frozen=True)
class ApproximationRecord:
    """An approximate rewrite of the network, its ``parameters``, and its cost compared with the exact network in FP32.

    ``limit`` is the largest change of the result that was allowed.
    """

    name: str
    parameters: dict[str, float]
    limit: float
    accuracy: AccuracyRecord


@dataclass(frozen=True)
class QuantisationRecord:
    """How a graph was quantised: the magnitude at which each tensor is clipped, chosen by ``method``; the nodes that
    are not quantised, with reasons; the largest change allowed, and what came of it. ``twin`` is the file beside it
    that comes of the same calibration; ``smooth`` says whether smoothing was asked
    for, ``smoothed`` how many norms were: none where it would have moved the output.
    """

    method: str
    clip: dict[str, float]
    kept: dict[str, str]
    budget: float | None
    worth: AccuracyRecord
    twin: str = ""
    smooth: bool = False
    smoothed: int = 0


@dataclass(frozen=True)
class Shapes:
    """Which sizes a graph takes: any multiple of ``stride``, or the one that is ``static`` (height, width), batch 1."""

    stride: int
    static: tuple[int, int] | None = None

    @property
    def static_size(self) -> Size | None:
        """The one size of a static graph."""
        return Size(*self.static) if self.static else None


@dataclass(frozen=True)
class EngineOptions:
    """What a builder was told beside the profiles; the same options and graph ask for the same engine.

    ``level`` is the builder's optimisation level (0 to 5), ``workspace_bytes`` the most that one layer may use for
    itself (0: what the library thinks right), ``compute_capabilities`` the targets of TensorRT-RTX (empty: its own
    choice). ``tf32`` lets FP32 matrix products round their inputs to 10 bits.
    """

    level: int = 3
    workspace_bytes: int = 0
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = ()

    @property
    def refittable(self) -> bool:
        """Whether weights can be put into the plan after it was built."""
        return self.refit or self.strip_weights


@dataclass(frozen=True)
class RefitRecord:
    """What a refittable plan's graph is without its weights, and what they were, so that another model can be told to
    be of the same graph: ``graph`` is a digest of operators, shapes and constants, ``weights`` one of each weight."""

    graph: str
    weights: dict[str, str]


@dataclass(frozen=True)
class LayerTimes:
    """Seconds that the layers of an engine took in one run of ``shape``, as the library reports them on its GPU.

    ``precision``: of those that compute, by what they compute in; ``casts`` and reformats, ``qdq`` and ``other``
    layers (without floating-point numbers) are not among them. ``attention`` is the part of ``precision`` that kernels
    for attention took. ``unknown``: of layers that the inspector does not list, or lists twice as different things.
    ``dearest``: the casts and reformats that cost most, by name.
    """

    shape: str
    precision: dict[str, float]
    casts: float = 0.0
    qdq: float = 0.0
    attention: float = 0.0
    other: float = 0.0
    unknown: float = 0.0
    dearest: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Of all layers; the run itself is shorter where layers overlap, and longer by what is between them."""
        return sum(self.precision.values()) + self.casts + self.qdq + self.other + self.unknown

    @property
    def tells(self) -> bool:
        """Whether shares of it mean anything: some layers compute, and most of the time is that of known ones."""
        return sum(self.precision.values()) > 0 and self.unknown <= self.total / 2


@dataclass(frozen=True)
class AuditRecord:
    """What an engine computes in. ``method``: ``network`` before the build, ``engine`` of the built one on its GPU.

    ``layers`` and ``operations`` are counts per precision: layers that compute with floating-point numbers, and
    arithmetic operations of one image. ``attention`` counts attention layers: ``whole`` ones, which take a
    kernel of their own, and ``decomposable`` ones, which the builder may take apart. ``times`` are those of a built
    engine's layers; where they were wanted and are not there, ``untimed`` says why.
    """

    method: str
    layers: dict[str, int]
    operations: dict[str, int]
    attention: dict[str, int]
    quantize: int = 0
    dequantize: int = 0
    casts: int = 0
    times: LayerTimes | None = None
    untimed: str = ""

    @property
    def basis(self) -> str:
        """What shares are of: ``time`` where it was measured, else ``arithmetic``, else ``layers``."""
        if self.times is not None and self.times.tells:
            return "time"
        return "arithmetic" if self.operations else "layers"

    @property
    def weights(self) -> Mapping[str, float]:
        """Per precision, in units of the :attr:`basis`."""
        if self.times is not None and self.times.tells:
            return self.times.precision
        return self.operations or self.layers

    def share(self, precision: str) -> float:
        """Part of the time (of the arithmetic where none was measured, else of the layers) spent in ``precision``."""
        return self.weights.get(precision, 0) / (sum(self.weights.values()) or 1)


@dataclass(frozen=True)
class EngineRecord:
    """How a plan was built: by which library, for which shapes, on which GPU (None: without one).

    ``weight_bytes`` and ``activation_bytes`` are predictions of device memory, the latter at the largest profile;
    ``ends_bytes`` are those of input and output there, which every run on its way needs for itself. ``refit`` is what
    ``dpt-deploy refit`` holds a model to; None where nothing can be put in. ``profile_times`` are what the profiles
    were measured to take, on the GPU ``measured_on``; empty where they were not.
    """

    library: str
    version: str
    device: Gpu | None
    profiles: tuple[Profile, ...]
    options: EngineOptions
    weight_bytes: int
    activation_bytes: int
    seconds: float
    audit: AuditRecord
    ends_bytes: int = 0
    refit: RefitRecord | None = None
    profile_times: tuple[ProfileTime, ...] = ()
    measured_on: Gpu | None = None
