"""Records of a sidecar: outputs, measurements, and how an engine was built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import Profile, ProfileTime
from dpt_deploy.core.ranges import Amount, Count, Measured, Natural, OptionalFileName, Positive, Range, Side
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
    max: Amount
    mean: Amount


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

    batch: Count
    size: str
    passed: bool
    max: Measured | None = None
    mean: Measured | None = None
    abs_rel: Measured | None = None
    agreement: Measured | None = None
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
    graph: Natural
    original: Annotated[int, Range(1)]

    @property
    def saved(self) -> float:
        """Share of the original's operations that the graph does not need."""
        return 1.0 - self.graph / self.original


@dataclass(frozen=True)
class RangeRecord:
    """Largest magnitudes of tensors, measured on ``images`` images from ``source`` at each of ``sizes``."""

    source: str
    images: Natural
    sizes: tuple[str, ...]
    largest: dict[str, Amount]  # tensor to its largest magnitude, in execution order


@dataclass(frozen=True)
class FurtherAccuracy:
    """Drift and SQNR of a further output, as in :class:`AccuracyRecord`; ``task`` is the task of that output."""

    task: str
    drift: Measured
    sqnr: Measured | None = None


@dataclass(frozen=True)
class AccuracyRecord:
    """Accuracy and speed of a precision compared with FP32, on ``images`` images from ``source`` at ``size``.

    ``drift`` is the distance to the output of FP32 in the terms of the task (:attr:`Task.drift`). ``sqnr`` is the ratio
    of signal to quantisation noise in dB (None for labels). If the truth is known, ``abs_rel`` and ``delta1`` are those
    of FP32 and of this precision. ``speedup`` over FP32 on ``runtime`` is the median and its 95 % interval; None if
    that runtime does not compute in this precision. These are numbers of the first output; ``further`` are the others.
    """

    source: str
    images: Natural
    size: str
    runtime: str
    drift: Measured
    sqnr: Measured | None = None
    abs_rel: tuple[Positive, Measured] | None = None
    delta1: tuple[Measured, Measured] | None = None
    speedup: tuple[Amount, Amount, Amount] | None = None
    further: tuple[FurtherAccuracy, ...] = ()

    @property
    def change(self) -> float:
        """Change that counts against a budget: the relative growth of AbsRel, or the drift if there is no truth.

        With several outputs, that of the output that changes most.
        """
        first = self.drift if self.abs_rel is None else self.abs_rel[1] / self.abs_rel[0] - 1.0
        return max(first, *(each.drift for each in self.further)) if self.further else first

    @property
    def least_sqnr(self) -> float | None:
        """The ratio of signal to noise of the output that has the least; None if no output has one."""
        found = (self.sqnr, *(each.sqnr for each in self.further))
        return min((sqnr for sqnr in found if sqnr is not None), default=None)

    @property
    def largest_drift(self) -> float:
        """The drift of the output that has the most."""
        return max([self.drift, *(each.drift for each in self.further)])


@dataclass(frozen=True)
class ApproximationRecord:
    """An approximate rewrite of the network, its ``parameters``, and its cost compared with the exact network in FP32.

    ``limit`` is the largest change of the result that was allowed.
    """

    name: str
    parameters: dict[str, float]
    limit: Amount
    accuracy: AccuracyRecord

    def __str__(self) -> str:
        return approximation_title(self.name, self.parameters)


def approximation_title(name: str, parameters: Mapping[str, float]) -> str:
    """Name and numbers of an approximation, as in file names; a height and a width are one size."""
    numbers = {key: f"{value:g}" for key, value in parameters.items()}
    if {"height", "width"} <= numbers.keys():
        numbers["height"] += f"x{numbers.pop('width')}"
    return "-".join((name, *numbers.values()))


@dataclass(frozen=True)
class QuantisationRecord:
    """Quantisation of a graph.

    ``clip`` is the magnitude at which each tensor is clipped, chosen by ``method``. ``kept`` are the nodes left
    unquantised, with reasons. ``budget`` is the largest change allowed, ``worth`` the accuracy and speed that resulted.
    ``twin`` is the other file from the same calibration. ``smooth`` is True if smoothing was requested; ``smoothed``
    counts the norms that were smoothed, 0 if that would have changed the output or did not lower the error.
    ``corrected`` counts the nodes with a corrected bias, 0 if that does not lower the error.
    """

    method: str
    clip: dict[str, Amount]
    kept: dict[str, str]
    budget: Amount | None
    worth: AccuracyRecord
    twin: OptionalFileName = ""
    smooth: bool = False
    smoothed: Natural = 0
    corrected: Natural = 0


@dataclass(frozen=True)
class Shapes:
    """Sizes that a graph takes: any multiple of ``stride``, or only ``static`` (height, width).

    A static graph takes batch 1, unless ``any_batch``: that is one whose network knows no other size.
    """

    stride: Annotated[int, Range(1, 4096)]
    static: tuple[Side, Side] | None = None
    any_batch: bool = False

    @property
    def static_size(self) -> Size | None:
        """The one size of a static graph."""
        return Size(*self.static) if self.static else None

    @property
    def single(self) -> bool:
        """True if the graph takes one image of one size."""
        return self.static is not None and not self.any_batch


@dataclass(frozen=True)
class EngineOptions:
    """Options of a build besides the profiles; the same options and graph request the same engine.

    ``level`` is the builder's optimisation level (0 to 5), ``workspace_bytes`` the most memory that one layer may use
    (0: the library's choice), ``compute_capabilities`` the targets of TensorRT-RTX (empty: its own choice). ``tf32``
    lets FP32 matrix products round their inputs to 10 bits.
    """

    level: Annotated[int, Range(0, 5)] = 3
    workspace_bytes: Natural = 0
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = ()

    @property
    def refittable(self) -> bool:
        """True if weights can be put into the plan after it was built."""
        return self.refit or self.strip_weights


@dataclass(frozen=True)
class RefitRecord:
    """Digests by which another model is recognised as having the same graph as a refittable plan.

    ``graph`` is the digest of operators, shapes and constants, ``weights`` has one of each weight.
    """

    graph: str
    weights: dict[str, str]


@dataclass(frozen=True)
class LayerTimes:
    """Seconds that the layers of an engine took in one run of ``shape``, as the library reports them on its GPU.

    ``precision`` is the time of layers that compute, by the precision they compute in. It excludes ``casts`` and
    reformats, ``qdq`` and ``other`` layers (without floating-point numbers). ``attention`` is the part of ``precision``
    that attention kernels took. ``unknown`` is the time of layers that the inspector does not list, or lists twice as
    different things. ``dearest`` are the most expensive casts and reformats, by name.
    """

    shape: str
    precision: dict[str, Amount]
    casts: Amount = 0.0
    qdq: Amount = 0.0
    attention: Amount = 0.0
    other: Amount = 0.0
    unknown: Amount = 0.0
    dearest: dict[str, Amount] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Time of all layers. The run is shorter if layers overlap, and longer by the gaps between them."""
        return sum(self.precision.values()) + self.casts + self.qdq + self.other + self.unknown

    @property
    def is_meaningful(self) -> bool:
        """True if its shares are meaningful: some layers compute, and known ones take most of the time."""
        return sum(self.precision.values()) > 0 and self.unknown <= self.total / 2


@dataclass(frozen=True)
class AuditRecord:
    """Precisions that an engine computes in. ``method`` is ``network`` (before the build) or ``engine`` (on its GPU).

    ``layers`` and ``operations`` are counts per precision: layers that compute with floating-point numbers, and
    arithmetic operations of one image. ``attention`` counts attention layers: fused ones (``whole``), which
    have a kernel of their own, and ``decomposable`` ones, which the builder may take apart. ``times`` are those of a
    built engine's layers; if they could not be measured, ``untimed`` is the reason.
    """

    method: str
    layers: dict[str, Natural]
    operations: dict[str, Natural]
    attention: dict[str, Natural]
    quantize: Natural = 0
    dequantize: Natural = 0
    casts: Natural = 0
    times: LayerTimes | None = None
    untimed: str = ""

    @property
    def basis(self) -> str:
        """Unit of the shares: ``time`` if it was measured, else ``arithmetic``, else ``layers``."""
        if self.times is not None and self.times.is_meaningful:
            return "time"
        return "arithmetic" if self.operations else "layers"

    @property
    def weights(self) -> Mapping[str, float]:
        """Amount per precision, in units of the :attr:`basis`."""
        if self.times is not None and self.times.is_meaningful:
            return self.times.precision
        return self.operations or self.layers

    def share(self, precision: str) -> float:
        """Share of ``precision`` in the time, or in the arithmetic or the layers if no time was measured."""
        return self.weights.get(precision, 0) / (sum(self.weights.values()) or 1)


@dataclass(frozen=True)
class EngineRecord:
    """Build of a plan: the library, the shapes, and the GPU it was built on (None: without one).

    ``weight_bytes`` and ``activation_bytes`` are predictions of device memory, the latter at the largest profile.
    ``ends_bytes`` is the memory of inputs and outputs there, needed once per run under way. ``refit`` is what
    ``dpt-deploy refit`` compares a model with; None if the plan is not refittable. ``profile_times`` are the measured
    times of the profiles on the GPU ``measured_on``; empty if they were not measured.
    """

    library: str
    version: str
    device: Gpu | None
    profiles: tuple[Profile, ...]
    options: EngineOptions
    weight_bytes: Natural
    activation_bytes: Natural
    seconds: Amount
    audit: AuditRecord
    ends_bytes: Natural = 0
    refit: RefitRecord | None = None
    profile_times: tuple[ProfileTime, ...] = ()
    measured_on: Gpu | None = None
