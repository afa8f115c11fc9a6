"""Steady video: maps of consecutive frames that flicker less. Causal, with a state of a few maps. NumPy only.

Networks see one frame at a time. Their relative depth has a scale and a shift of its own in every frame, and details
that flicker. For each frame, three steps compare it with the frame before:

1. A scene cut, seen in the photograph, clears the state.
2. Scale and shift are fitted to the previous result by robust, symmetric regression over pixels whose photograph
   barely changed. They are pulled back to the network's own slowly, so that nothing drifts away in a long video.
3. Each pixel moves a part of the way from the previous result to the new map: a small part where the photograph or the
   map barely changed, all of it where both did.

The result of a frame does not depend on later frames. A frame whose photograph equals the previous one keeps its
result, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32) / 255  # BT.601, of bytes
_CUT = 0.55  # correlation of two thumbnails below which a scene is another
_FLAT = 0.01  # standard deviation of a thumbnail in which nothing can be compared
_THUMBNAIL = 16  # cells along each side
_FITTED = 1 << 14  # pixels that enter the fit, about
_ROUNDS = 5  # of reweighting
_STILL = 0.03  # change of luminance (0..1) at which a pixel has half its weight in the fit
_PULL = 0.01  # share of the network's own scale and shift in every frame
_REST = 0.2  # part of the way that a pixel goes where little has changed
_PHOTO = 0.1  # change of luminance from which it may go all the way
_DEPTH = (0.02, 0.15)  # change of the map, over its range, from which it starts to go farther, and may go all the way
_RADIUS = 96  # changes are averaged over squares of about this part of the short side
_RANGE = 0.1  # share of a frame's own ends in the ends that colours are stretched over


class Ends(NamedTuple):
    """The values at both ends of a colour scale."""

    low: float
    high: float


@dataclass
class _Previous:
    """Everything that is kept from one frame to the next."""

    photo: NDArray[Any]  # (H, W, 3), of the last frame
    luminance: Values  # (H, W), 0..1, of the last frame
    result: Values  # (H, W)
    ends: Ends
    scale: float = 1.0
    shift: float = 0.0


class Steadier:
    """Steadies the maps of one video, one frame after the other.

    ``align`` fits scale and shift, for depth that is known up to these. Without it values are filtered as they are, for
    depth in metres.
    """

    def __init__(self, *, align: bool = True) -> None:
        self._align = align
        self._state: _Previous | None = None
        self.cuts = 0

    @property
    def ends(self) -> Ends:
        """A range of values that follows the frames slowly, to stretch colours over; a cut starts it anew.

        Raises:
            ValueError: there was no frame.
        """
        if self._state is None:
            raise ValueError("there was no frame")
        return self._state.ends

    def __call__(self, values: Values, photo: NDArray[np.uint8]) -> Values:
        """The steady map (H, W) of a frame from the map of the network and the photograph (H, W, 3) in RGB."""
        state = self._state
        if state is not None and np.array_equal(photo, state.photo):
            return state.result
        luminance: Values = np.asarray(photo.astype(np.float32) @ _LUMINANCE, np.float32)
        if state is None or values.shape != state.result.shape or is_cut(state.luminance, luminance):
            self.cuts += state is not None
            first = values.astype(np.float32)
            self._state = _Previous(photo.copy(), luminance, first, _ends(first))
            return first
        changed = _local_mean(np.abs(luminance - state.luminance))
        if self._align:
            found = fit(values, state.result, changed)
            state.scale, state.shift = found or (state.scale, state.shift)
            values = np.float32(state.scale) * values + np.float32(state.shift)
        moved = _local_mean(np.abs(values - state.result)) / max(state.ends.high - state.ends.low, 1e-12)
        low, high = _DEPTH
        both = np.minimum(_step(changed / _PHOTO), _step((moved - low) / (high - low)))
        values = state.result + (_REST + (1 - _REST) * both) * (values - state.result)
        state.photo, state.luminance, state.result = photo.copy(), luminance, values.astype(np.float32)
        new = zip(state.ends, _ends(state.result), strict=True)
        state.ends = Ends(*(before + _RANGE * (now - before) for before, now in new))
        return state.result


def is_cut(before: Values, after: Values) -> bool:
    """True if two photographs (H, W), as luminance, show different scenes: their thumbnails do not correlate.

    A change of exposure is no cut, since correlation ignores gain and offset. Two flat photographs are none either.
    """
    first, second = (_thumbnail(each) for each in (before, after))
    first, second = first - first.mean(), second - second.mean()
    if max(float(first.std()), float(second.std())) < _FLAT:
        return False
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) < _CUT * norm or norm == 0


def fit(values: Values, target: Values, changed: Values) -> tuple[float, float] | None:
    """``(scale, shift)`` that bring ``values`` near to ``target``, each (H, W); None if they are not alike.

    Pixels weigh less the more their photograph ``changed`` (0..1), and the farther they are from the fit (Huber's
    weights). The scale is the ratio of standard deviations. Least squares would make it smaller than it is by the noise
    of ``values``, and a little smaller in every frame.
    """
    step = max(1, int((values.size / _FITTED) ** 0.5))
    x, y, moved = (each[::step, ::step].ravel().astype(np.float64) for each in (values, target, changed))
    own = 1 / (1 + (moved / _STILL) ** 2)
    weights, scale, shift = own, 1.0, 0.0
    for _ in range(_ROUNDS):
        total = weights.sum()
        mean_x, mean_y = weights @ x / total, weights @ y / total
        dx, dy = x - mean_x, y - mean_y
        variance, both = weights @ dx**2, weights @ (dx * dy)
        if not both > 0:
            return None
        scale = float(np.sqrt(weights @ dy**2 / variance))
        shift = float(mean_y - scale * mean_x)
        off = np.abs(scale * x + shift - y)
        limit = 1.5 * float(np.median(off))
        weights = own * np.minimum(1, limit / np.maximum(off, 1e-12)) if limit > 0 else own
    return scale + _PULL * (1 - scale), (1 - _PULL) * shift


def _ends(values: Values) -> Ends:
    return Ends(float(values.min()), float(values.max()))


def _step(share: Values) -> Values:
    """A smooth step: 0 up to 0, 1 from 1."""
    inside = np.clip(share, 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside), np.float32)


def _thumbnail(luminance: Values) -> NDArray[np.float64]:
    """Means of about 16 x 16 cells, as one vector."""
    found = luminance.astype(np.float64)
    for axis in (0, 1):
        length = found.shape[axis]
        starts = np.unique(np.linspace(0, length, _THUMBNAIL, endpoint=False).astype(int))
        sizes = np.diff(np.append(starts, length))
        found = np.add.reduceat(found, starts, axis) / (sizes[:, None] if axis == 0 else sizes)
    return found.ravel()


def _local_mean(values: Values) -> Values:
    """The mean of the square around each pixel; the edge is repeated."""
    radius = max(1, round(min(values.shape) / _RADIUS))
    side, found = 2 * radius + 1, values.astype(np.float64)
    for axis in (0, 1):
        pads = [(radius + 1, radius) if each == axis else (0, 0) for each in (0, 1)]
        sums = np.cumsum(np.pad(found, pads, mode="edge"), axis=axis)
        length = values.shape[axis]
        first, last = (np.take(sums, np.arange(length) + offset, axis) for offset in (0, side))
        found = (last - first) / side
    return found.astype(np.float32)
