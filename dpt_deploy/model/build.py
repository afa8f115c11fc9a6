"""Build the network that a specification describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from types import MappingProxyType

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT

# What PyTorch and timm raise while they build or run a network whose numbers do not fit.
_CONTRADICTIONS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def build(spec: ModelSpec) -> DPT:
    """The network of ``spec`` on the meta device: shapes without memory, in evaluation mode.

    Raises:
        BadFileError: its numbers contradict each other.
    """
    with _contradictions(spec):
        model = _construct(spec)
        _check_fit(spec)
    return model


@cache
def parameter_shapes(spec: ModelSpec) -> Mapping[str, tuple[int, ...]]:
    """The shapes of what the network of ``spec`` stores, by name. They are kept: a search asks for many networks.

    Raises:
        BadFileError: its numbers contradict each other.
    """
    with _contradictions(spec):
        return MappingProxyType({key: tuple(tensor.shape) for key, tensor in _construct(spec).state_dict().items()})


def _construct(spec: ModelSpec) -> DPT:
    with torch.device("meta"):
        return DPT(spec).requires_grad_(False).eval()


@contextmanager
def _contradictions(spec: ModelSpec) -> Iterator[None]:
    """Turn what PyTorch and timm raise into an error that names the network."""
    try:
        yield
    except _CONTRADICTIONS as exc:
        raise BadFileError(
            f"no network can be built as {spec.name!r} is described: {' '.join(str(exc).split())[:200]}",
            hint="correct the recipe; a model's sidecar is damaged: export again",
        ) from exc


@cache
def _check_fit(spec: ModelSpec) -> None:
    """Run the network once without memory: parts that do not fit each other raise PyTorch's own errors."""
    size = spec.only_size or Size(2 * spec.stride, 2 * spec.stride)
    with torch.device("meta"), torch.no_grad():
        DPT(spec).eval()(torch.empty((1, 3, size.height, size.width)))


@lru_cache(maxsize=64)  # files of one export in several precisions have one network
def count_reference_operations(spec: ModelSpec, size: Size) -> int:
    """Operations of the network as the paper draws it (two per multiply-add), for one image.

    PyTorch counts them on the meta device.
    """
    with FlopCounterMode(display=False) as counter:
        build(spec)(torch.empty((1, 3, size.height, size.width), device="meta"))
    return int(counter.get_total_flops())
