"""Photographs and depth maps as small pictures in a page (data URIs); all maps of an image share a colour scale."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dpt_deploy.imaging.palette import palette

SIDE = 300  # pixels of the longer side: sharp on high-density screens
_QUALITY = 86
_UNKNOWN = 128  # grey, which is not in the colour map, marks unknown pixels
_ENDS = (1, 99)  # percentiles of the ground truth that the colours span

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class View:
    """Output of one candidate at one size: inverse depth (H, W) in 1/m, aligned to the ground truth, and its error."""

    candidate: str
    size: str
    nearness: Map
    error: float


@dataclass(frozen=True)
class Exhibit:
    """An image, its ground truth as inverse depth (H, W) in 1/m (NaN: unknown; 0: sky), and the candidates' outputs."""

    name: str
    kind: str
    image: Pixels
    truth: Map
    views: tuple[View, ...]

    def scale(self) -> tuple[float, float]:
        """Inverse depths of the first and the last colour in every picture of this image."""
        known = self.truth[np.isfinite(self.truth)]
        low, high = np.percentile(known, _ENDS) if known.size else (0.0, 1.0)
        return float(low), float(high)


def photograph(image: Pixels) -> str:
    """Encode RGB (H, W, 3) as a data URI."""
    return _uri(Image.fromarray(image))


def depth_picture(nearness: Map, scale: tuple[float, float]) -> str:
    """Draw inverse depth (H, W) in the colour map ``inferno``; near is bright."""
    low, high = scale
    known = np.isfinite(nearness)
    share = (np.where(known, nearness, low) - low) / max(high - low, 1e-9)
    colours = mpl.colormaps["inferno"](share.clip(0, 1), bytes=True)[..., :3]
    return _uri(Image.fromarray(np.where(known[..., None], colours, np.uint8(_UNKNOWN))))


def label_picture(labels: NDArray[Any], classes: int) -> str:
    """Draw 1-based labels (H, W) in the colours of ``classes`` classes."""
    return _uri(Image.fromarray(palette(classes)[labels]))


def _uri(picture: Image.Image) -> str:
    width, height = picture.size
    factor = min(1.0, SIDE / max(width, height))
    small = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)  # Pillow cannot optimise an image of strong noise
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
