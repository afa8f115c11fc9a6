"""Choose the clipping value of a tensor before it is quantised: rare large numbers cost all others resolution.

Four methods are in common use. ``min-max`` clips nothing. ``percentile`` clips one number in ten thousand. ``mse``
minimises the mean squared error of rounding and clipping together. ``entropy`` minimises the information lost
(Migacz 2017, 8-bit Inference with TensorRT).
"""

from __future__ import annotations

import numpy as np

from dpt_deploy.graph.precision.histograms import BINS, MIDDLES, Counts

PERCENTILE = 99.99
STEPS = 127  # of signed 8-bit numbers, from zero to the clipping value
_CANDIDATES = 2.0 ** (-np.arange(40) / 8)  # shares of the largest magnitude, down to a thirtieth
_LINEAR = 2048  # bins of equal width for the entropy
_FLOOR = 1e-9  # probability of a level that only clipped numbers have
_FINITE = np.isfinite(MIDDLES)


def clipping_value(counts: Counts, largest: float, method: str) -> float:
    """Return the magnitude beyond which numbers are clipped, at most ``largest``.

    Args:
        counts: a histogram of magnitudes (BINS,), see :mod:`~dpt_deploy.graph.precision.histograms`.
        largest: the largest magnitude, in [0, ∞). The histogram counts a sample and may have missed it.
        method: one of :data:`~dpt_deploy.core.precision.CLIPPING_METHODS`.
    """
    if method == "min-max" or largest <= 0.0 or not counts[1:].any():
        return largest
    return min(largest, float(_METHODS[method](counts[:BINS], largest)))


def _percentile(counts: Counts, _largest: float) -> float:
    reached = np.cumsum(counts)
    return float(MIDDLES[np.searchsorted(reached, reached[-1] * PERCENTILE / 100.0)])


def _mse(counts: Counts, largest: float) -> float:
    """Return the candidate of least squared error; a number below half a step rounds to zero and is all error."""
    used = np.flatnonzero(counts * _FINITE)
    values, weights = MIDDLES[used], counts[used]

    def error(clip: float) -> float:
        step = clip / STEPS
        rounding = np.where(values < step / 2, values**2, step**2 / 12)
        return float((weights * np.where(values > clip, (values - clip) ** 2, rounding)).sum())

    return float(min((largest * _CANDIDATES).tolist(), key=error))


def _entropy(counts: Counts, largest: float) -> float:
    """Return the candidate whose 128 levels have the least Kullback-Leibler divergence from the distribution."""
    used = np.flatnonzero(counts * _FINITE)
    values = np.minimum(MIDDLES[used], largest)
    linear = np.histogram(values, bins=_LINEAR, range=(0.0, largest), weights=counts[used])[0]
    sizes = sorted({max(STEPS + 1, round(_LINEAR * share)) for share in _CANDIDATES}, reverse=True)
    best: int = min(sizes, key=lambda size: _divergence(linear, size))
    return largest * best / _LINEAR


def _divergence(linear: np.ndarray, size: int) -> float:
    """Divergence of the first ``size`` bins, in ``STEPS + 1`` levels, from the clipped distribution.

    Clipping adds the counts beyond ``size`` to the last bin.
    """
    kept = linear[:size].copy()
    reference = kept.copy()
    reference[-1] += linear[size:].sum()
    level = np.arange(size) * (STEPS + 1) // size
    there = kept > 0
    sums, bins = np.bincount(level, kept, STEPS + 1), np.bincount(level, there, STEPS + 1)
    coarse = np.where(there, (sums / np.maximum(bins, 1))[level], 0.0)
    if coarse.sum() == 0.0:
        return np.inf  # everything would be clipped
    p, q = reference / reference.sum(), np.maximum(coarse / coarse.sum(), _FLOOR)
    used = p > 0
    return float((p[used] * np.log(p[used] / q[used])).sum())


_METHODS = {"percentile": _percentile, "mse": _mse, "entropy": _entropy}
