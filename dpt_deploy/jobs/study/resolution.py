"""Accuracy against inference resolution (paper, Figure 4): statistics of the scores of many images.

A *candidate* is a model on a runtime at a precision. Its loss at a size is the mean error there over the mean error at
the training size, minus one, in percent. Intervals are 95 % percentile bootstraps over images. All candidates and sizes
share the resamples, so the difficulty of an image cancels in ratios and differences. If images come in kinds with fixed
shares, a resample keeps the shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.measure.bootstrap import RESAMPLES, Draws, Estimate, image_weights, strata

Verdict = Literal["holds", "reversed", "not distinguishable"]

PAPER_RATIO = 640 / 384  # the largest size of Figure 4 over its training size
DEFAULT_RATIOS = (1, 7 / 6, 4 / 3, 3 / 2, 5 / 3, 2, 7 / 3, 8 / 3)  # the paper's range, then beyond it
_SLACK = 1e-6  # of a ratio: rounding must not exclude 320 / 192, the end of the paper's range


@dataclass(frozen=True)
class Scores:
    """Errors (AbsRel) of every candidate at every size on every image: ``values`` is (candidates, sizes, images).

    ``plane`` (images,) is the error of the best plane, fitted to the ground truth of each image: the baseline.
    ``kinds`` (images,) are the kinds whose shares were fixed when the images were chosen; empty if there is one kind.

    Raises:
        BadFileError: fewer than two images are left, so there is no interval.
        ParityError: a candidate has no error at the training size, so no loss is relative to it.
    """

    candidates: tuple[str, ...]
    sizes: tuple[Size, ...]
    trained: Size
    images: tuple[str, ...]
    values: NDArray[np.float64]
    plane: NDArray[np.float64]
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.candidates), len(self.sizes), len(self.images))
        fits = self.values.shape == shape and self.plane.shape == shape[2:] and len(self.kinds) in (0, shape[2])
        if not fits or self.trained not in self.sizes:
            raise ValueError(f"scores of shape {self.values.shape} and {self.plane.shape} for {shape}")
        if shape[2] < 2:
            raise BadFileError(f"{shape[2]} image(s) to measure on; expected at least two", hint="give more images")
        exact = [
            name for name, row in zip(self.candidates, self.values[:, self.reference], strict=True) if not row.any()
        ]
        if exact:
            raise ParityError(
                f"{exact[0]} makes no error at {self.trained}", hint="check that the ground truth is not a prediction"
            )

    @property
    def reference(self) -> int:
        """Index of the training size."""
        return self.sizes.index(self.trained)

    @property
    def others(self) -> list[int]:
        """Indices of all other sizes."""
        return [index for index, size in enumerate(self.sizes) if size != self.trained]

    @property
    def stratified(self) -> bool:
        """True if resamples keep the shares of kinds, that is, if two kinds have enough images."""
        return len(strata(self.kinds)) > 1

    def weights(self, seed: int, resamples: int) -> Draws:
        """:func:`image_weights` of these images."""
        return image_weights(self.kinds or len(self.images), seed, resamples)


@dataclass(frozen=True)
class Curve:
    """One candidate over all sizes: mean error, loss in percent, error as a share of the plane's.

    ``in_range`` is the mean loss over the sizes of the paper's range, ``beyond`` over larger ones (None without any).
    """

    candidate: str
    error: tuple[Estimate, ...]
    loss: tuple[Estimate, ...]
    share_of_plane: tuple[Estimate, ...]
    in_range: Estimate
    beyond: Estimate | None


@dataclass(frozen=True)
class Comparison:
    """Additional loss of ``rival`` over ``candidate`` in percentage points; the paper finds it positive."""

    candidate: str
    rival: str
    by_size: tuple[Estimate, ...]
    in_range: Estimate
    beyond: Estimate | None

    @property
    def verdict(self) -> Verdict:
        """Conclusion from the interval over the paper's range."""
        return verdict(self.in_range)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON."""
        found = asdict(self)
        return {"subject": found.pop("candidate"), **found, "verdict": self.verdict}


@dataclass(frozen=True)
class Control:
    """Additional loss of a candidate with a planted defect over its original, at all sizes but the training size.

    The defect has no effect at the training size; ``at_training`` is the largest difference of any image's error there.
    """

    planted: str
    original: str
    by_size: tuple[Estimate, ...]
    overall: Estimate
    at_training: float

    @property
    def noticed(self) -> bool:
        return self.overall.low > 0


@dataclass(frozen=True)
class Analysis:
    """Statistics of all scores."""

    curves: tuple[Curve, ...]
    plane: Estimate
    comparisons: tuple[Comparison, ...]
    control: Control | None


def verdict(difference: Estimate) -> Verdict:
    """Return ``holds`` if the whole interval lies above zero, ``reversed`` if below."""
    if difference.low > 0:
        return "holds"
    return "reversed" if difference.high < 0 else "not distinguishable"


def ratio(size: Size, trained: Size) -> float:
    """Ratio of the sides to those of the training size (the root of the ratio of areas)."""
    return math.sqrt(size.height * size.width / (trained.height * trained.width))


def default_sizes(trained: Size, stride: int) -> tuple[Size, ...]:
    """Sizes of :data:`DEFAULT_RATIOS`, each side rounded to a multiple of ``stride``."""

    def side(length: int, factor: float) -> int:
        return max(stride, round(length * factor / stride) * stride)

    wanted = [Size(side(trained.height, factor), side(trained.width, factor)) for factor in DEFAULT_RATIOS[1:]]
    return tuple(dict.fromkeys([trained, *wanted]))


def paper_range(sizes: Sequence[Size], trained: Size) -> list[int]:
    """Indices of the sizes within the paper's range of ratios; of all other sizes if there is none."""
    inside = [i for i, size in enumerate(sizes) if 1 < ratio(size, trained) <= PAPER_RATIO + _SLACK]
    return inside or [i for i, size in enumerate(sizes) if size != trained]


def analyse(
    scores: Scores,
    pairs: Sequence[tuple[str, str]],
    control: tuple[str, str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Analysis:
    """Compute the curves, a comparison of each (candidate, rival), and the control (planted, original)."""
    weights = scores.weights(seed, resamples)
    errors = np.einsum("rn,skn->rsk", weights, scores.values)  # mean over the images of each draw
    plane = weights @ scores.plane
    losses = 100 * (errors / errors[:, :, [scores.reference]] - 1)
    inside = paper_range(scores.sizes, scores.trained)
    outside = [i for i, size in enumerate(scores.sizes) if ratio(size, scores.trained) > PAPER_RATIO + _SLACK]
    outside = [i for i in outside if i not in inside]
    at = {name: losses[:, index] for index, name in enumerate(scores.candidates)}
    curves = tuple(
        Curve(
            name,
            _each(errors[:, index]),
            _each(at[name]),
            _each(errors[:, index] / plane[:, None]),
            _over(at[name], inside),
            _over(at[name], outside) if outside else None,
        )
        for index, name in enumerate(scores.candidates)
    )
    comparisons = tuple(_comparison(candidate, rival, at, inside, outside) for candidate, rival in pairs)
    return Analysis(curves, Estimate.of(plane), comparisons, _control(scores, at, control) if control else None)


def _comparison(
    candidate: str, rival: str, at: dict[str, Draws], inside: Sequence[int], outside: Sequence[int]
) -> Comparison:
    more = at[rival] - at[candidate]
    beyond = _over(more, outside) if outside else None
    return Comparison(candidate, rival, _each(more), _over(more, inside), beyond)


def _control(scores: Scores, at: dict[str, Draws], names: tuple[str, str]) -> Control:
    planted, original = (scores.candidates.index(name) for name in names)
    more = at[names[0]] - at[names[1]]
    trained = scores.values[:, scores.reference]
    apart = float(np.abs(trained[planted] - trained[original]).max())
    return Control(*names, _each(more), _over(more, scores.others), apart)


def _each(draws: Draws) -> tuple[Estimate, ...]:
    return tuple(Estimate.of(draws[:, index]) for index in range(draws.shape[1]))


def _over(draws: Draws, sizes: Sequence[int]) -> Estimate:
    return Estimate.of(draws[:, list(sizes)].mean(axis=1))
