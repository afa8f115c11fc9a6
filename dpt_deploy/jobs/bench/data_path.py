"""Ways of the data around a timed call, and the frames of those that resize on the GPU."""

from __future__ import annotations

from typing import Literal

FRAME = (1080, 1920)  # height and width of the frames that are resized on the GPU
BURST = 32  # frames in a row: the first and the last have nothing to overlap with on one side
DataPath = Literal["host", "device", "enqueue", "frame", "frames"]
