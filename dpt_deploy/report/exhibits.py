"""Photographs and depth as small pictures inside a page (data URIs), all of a scene in one scale of colours."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 300  # pixels of the longer side: sharp on a screen of twice that density
_QUALITY = 86
_UNKNOWN = 128  # grey is no colour of the map: here nothing was measured
_ENDS = (1, 99)  # per cent of the truth that the colours span

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class View:
    """What one candidate saw at one size: inverse depth (H, W) in 1/m, aligned to the truth, and its error."""

    candidate: str
    size: str
    nearness: Map
    error: float


@dataclass(frozen=True)
class Exhibit:
    """An image, its truth as inverse depth (H, W) in 1/m (NaN: not known; 0: sky), and what was seen in it."""

    name: str
    kind: str
    image: Pixels
    truth: Map
    views: tuple[View, ...]

    def scale(self) -> tuple[float, float]:
        """The inverse depths that get the first and the last colour, in every picture of this image."""
        known = self.truth[np.isfinite(self.truth)]
        low, high = np.percentile(known, _ENDS) if known.size else (0.0, 1.0)
        return float(low), float(high)


def photograph(image: Pixels) -> str:
    """RGB (H, W, 3) as a data URI."""
    return _uri(Image.fromarray(image))


def depth_picture(nearness: Map, scale: tuple[float, float]) -> str:
    """Inverse depth (H, W) in the colours of ``inferno``: the nearer, the brighter."""
    low, high = scale
    known = np.isfinite(nearness)
    share = (np.where(known, nearness, low) - low) / max(high - low, 1e-9)
    colours = mpl.colormaps["inferno"](share.clip(0, 1), bytes=True)[..., :3]
    return _uri(Image.fromarray(np.where(known[..., None], colours, np.uint8(_UNKNOWN))))


def _uri(picture: Image.Image) -> str:
    width, height = picture.size
    factor = min(1.0, SIDE / max(width, height))
    small = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
