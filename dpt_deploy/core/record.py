"""What was measured of an artefact, as its sidecar keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.spec import Size


@dataclass(frozen=True)
class CaseResult:
    """Agreement of one batch at one size. ``max`` and ``mean`` are errors over the reference's range; None for labels.

    A candidate with NaN or infinity has no error that could be measured: it fails with a ``note``.
    """

    batch: int
    size: str
    passed: bool
    max: float | None = None
    mean: float | None = None
    abs_rel: float | None = None
    agreement: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ParityRecord:
    """A comparison with the reference: every case, what they were held to, and where it ran.

    ``matrix`` is False for the one small case that every export is held to before it is written.
    """

    verified: bool
    matrix: bool
    runtime: str
    tolerance: Tolerance
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
class WorthRecord:
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
class QuantisationRecord:
    """How a graph was quantised: the magnitude at which each tensor is clipped, chosen by ``method``; the nodes that
    are not quantised, with reasons; the largest change allowed, and what came of it. ``twin`` is the file beside it
    that comes of the same calibration; ``smooth`` says whether norms were smoothed before.
    """

    method: str
    clip: dict[str, float]
    kept: dict[str, str]
    budget: float | None
    worth: WorthRecord
    twin: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class Shapes:
    """Which sizes a graph takes: any multiple of ``stride``, or the one that is ``static`` (height, width), batch 1."""

    stride: int
    static: tuple[int, int] | None = None

    @property
    def static_size(self) -> Size | None:
        """The one size of a static graph."""
        return Size(*self.static) if self.static else None
