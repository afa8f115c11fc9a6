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
class Shapes:
    """Which sizes a graph takes: any multiple of ``stride``, or the one that is ``static`` (height, width), batch 1."""

    stride: int
    static: tuple[int, int] | None = None

    @property
    def static_size(self) -> Size | None:
        """The one size of a static graph."""
        return Size(*self.static) if self.static else None
