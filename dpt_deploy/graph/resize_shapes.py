"""Shapes of resized maps while a module is traced, without the arithmetic of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

try:  # no public interface; without it a trace gives the same graph, later
    from torch._subclasses.fake_impls import get_fast_op_impls
except ImportError:  # pragma: no cover  (a torch to come)
    get_fast_op_impls: Callable[[], dict[Any, Any]] = dict  # type: ignore[no-redef]


@contextmanager
def known_resize_shapes() -> Iterator[None]:
    """Give PyTorch the shape of a bilinear resize inside the block.

    To find the shape, PyTorch traces the arithmetic that the resize consists of, with symbolic sizes, at each of the
    exporter's steps. The resize stays one node either way.
    """
    functions, resize = get_fast_op_impls(), torch.ops.aten.upsample_bilinear2d.vec
    before = functions.get(resize)
    functions[resize] = _resized
    try:
        yield
    finally:
        if before is None:
            del functions[resize]
        else:
            functions[resize] = before


def _resized(
    mode: Any, x: torch.Tensor, size: Sequence[int] | None, _align_corners: bool, factors: Sequence[float] | None
) -> torch.Tensor:
    height, width = size or (_times(side, by) for side, by in zip(x.shape[2:], factors or (), strict=True))
    with mode:
        return x.new_empty((x.shape[0], x.shape[1], height, width))


def _times(side: int, factor: float) -> int:
    whole = int(factor)
    return side * whole if whole == factor else int(torch.sym_int(side * factor))
