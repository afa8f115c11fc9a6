"""Find the first tensor at which two computations diverge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.jobs.verify.result import Divergence
from dpt_deploy.measure import metrics

Probe = Callable[[Sequence[str]], Mapping[str, tuple[np.ndarray, np.ndarray]]]  # names -> candidate, reference


def first_divergence(names: Sequence[str], probe: Probe, tolerance: Tolerance, *, chunk: int = 16) -> Divergence | None:
    """Scan ``names`` in execution order, ``chunk`` tensors a run, and return the first that exceeds ``tolerance``.

    A scan, not a binary search: an error can cancel further down, and a wrong answer here costs hours. ``chunk`` bounds
    the memory held at a time. Tensors that are constant in the reference are skipped: they have no range.
    """
    last_good: str | None = None
    for start in range(0, len(names), chunk):
        measured = probe(names[start : start + chunk])
        for name in names[start : start + chunk]:
            candidate, reference = measured[name]
            if candidate.shape != reference.shape:
                return Divergence(name, float("inf"), float("inf"), last_good)
            if metrics.span(reference) == 0.0:
                continue
            largest, mean = metrics.range_error(candidate, reference)
            if largest > tolerance.max or mean > tolerance.mean:
                return Divergence(name, largest, mean, last_good)
            last_good = name
    return None
