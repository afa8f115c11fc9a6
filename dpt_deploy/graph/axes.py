"""The dimensions of an exported model: what is symbolic, what it is called, and the sizes used while tracing."""

from __future__ import annotations

from dataclasses import dataclass

from dpt_deploy.core.size import Size

BATCH, HEIGHT, WIDTH = "batch", "height", "width"

# Traced at a size and batch whose every derived number (grid, tokens, strides) is far from any channel count, so that a
# traced number which leaked into a constant is recognised by the lint.
TRACE_BATCH = 11
TRACE_MULTIPLES = (13, 19)
MAX_MULTIPLE = 256  # of the stride: sides up to 8192 pixels at stride 32
MAX_BATCH = 1024


@dataclass(frozen=True)
class Axes:
    """How the input varies: fully dynamic, or fixed to one size (``static``) and batch 1."""

    stride: int
    static: Size | None = None

    @property
    def trace_size(self) -> Size:
        high, wide = TRACE_MULTIPLES
        return self.static or Size(high * self.stride, wide * self.stride)

    @property
    def trace_batch(self) -> int:
        return 1 if self.static else TRACE_BATCH

    def traced_numbers(self) -> frozenset[int]:
        """Numbers that betray a baked size: the traced sides at every stride, the token counts, the batch product."""
        if self.static:
            return frozenset()
        size = self.trace_size
        strides = [1, 2, 4, 8, 16, 32]
        sides = {side // s for side in (size.height, size.width) for s in strides if side % s == 0}
        cells = {(size.height // s) * (size.width // s) for s in strides}
        tokens = {cells_at + prefix for cells_at in cells for prefix in (1, 2)}
        counts = cells | tokens
        return frozenset(sides | counts | {self.trace_batch * count for count in counts} | {self.trace_batch})
