"""Dimensions of an exported model: which are symbolic, their names, and the sizes used while tracing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec

BATCH, HEIGHT, WIDTH = "batch", "height", "width"

# The size and batch used while tracing. None of the numbers derived from them (grid, tokens, strides) is a channel
# count, so the lint recognises one that leaked into a constant.
TRACE_BATCH = 11
TRACE_MULTIPLES = (13, 19)
# Others, for networks with numbers of their own among those: batch and multiples.
_OTHER_TRACES = ((23, (17, 29)), (31, (29, 37)), (43, (41, 47)))
MAX_SIDE = 8192  # pixels
MAX_BATCH = 1024


@dataclass(frozen=True)
class Axes:
    """Variation of the input: fully dynamic, or fixed to one size (``static``) and, unless ``any_batch``, to batch 1.

    ``map_strides`` are the strides in the image, in pixels, of the feature maps inside the network.
    """

    stride: int
    static: Size | None = None
    map_strides: tuple[float, ...] = (4, 8, 16, 32)
    any_batch: bool = False
    batch: int = TRACE_BATCH
    multiples: tuple[int, int] = TRACE_MULTIPLES

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the symbolic dimensions, in the order of the input's."""
        if self.static:
            return (BATCH,) if self.any_batch else ()
        return (BATCH, HEIGHT, WIDTH)

    @property
    def trace_size(self) -> Size:
        high, wide = self.multiples
        return self.static or Size(high * self.stride, wide * self.stride)

    @property
    def trace_batch(self) -> int:
        return self.batch if self.free else 1

    def traced_numbers(self) -> frozenset[int]:
        """Numbers that reveal a baked size: traced sides at every stride, token counts, products with the batch."""
        if not self.free:
            return frozenset()
        size = self.trace_size
        strides = [1, self.map_strides[0] / 2, *self.map_strides]  # of the image, the last fused map, the other maps
        sides = {ceil(side / s) for side in (size.height, size.width) for s in strides}
        cells = {ceil(size.height / s) * ceil(size.width / s) for s in strides}
        tokens = {cells_at + prefix for cells_at in cells for prefix in (1, 2)}
        counts = cells | tokens
        of_batch = {self.trace_batch, *(self.trace_batch * count for count in counts)}
        return frozenset(of_batch if self.static else sides | counts | of_batch)


def axes_of(spec: ModelSpec, static: Size | None, constants: frozenset[int] = frozenset()) -> Axes:
    """The axes of an export of ``spec``: every one that the network leaves free, unless ``static`` fixes them all.

    ``constants`` are numbers in the graph that are meant, such as a fixed number of tokens: no size that would lead to
    them is traced, as far as there is one.
    """
    size = static or spec.only_size
    axes = Axes(spec.stride, size, spec.encoder.strides, any_batch=static is None)
    others = (replace(axes, batch=batch, multiples=multiples) for batch, multiples in _OTHER_TRACES)
    return next((each for each in (axes, *others) if constants.isdisjoint(each.traced_numbers())), axes)
