"""A data set: named samples, read one at a time.

Opening a data set reads its index only. The files of a sample are opened when the sample is requested and closed
afterwards, so memory does not grow with the data set.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.protocols import Protocol


@dataclass(frozen=True)
class OrdinalPair:
    """Two points (row, column), one of which annotators called farther away."""

    far: tuple[int, int]
    near: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its ground truth.

    ``image`` is RGB (H, W, 3) before any resizing. ``valid`` (H, W) marks the pixels that have ground truth. Exactly
    one of the others is not None: ``depth`` (H, W) in metres, 0 where not valid; ``labels`` (H, W), 1-based, 0 where
    unlabelled; or ``pairs``.
    """

    name: str
    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    depth: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None
    pairs: tuple[OrdinalPair, ...] | None = None


class Reader(typing.Protocol):
    """The index of one opened folder."""

    names: Sequence[str]

    def read(self, index: int) -> Sample:
        """Read the sample ``names[index]``; raises :class:`BadFileError` if a file of it is missing or damaged."""
        ...


class Dataset:
    """A data set on disk and its evaluation protocol.

    Indexing and iteration read samples. They raise :class:`BadFileError` with the sample's name when one cannot be
    read.
    """

    def __init__(self, name: str, protocol: Protocol, reader: Reader) -> None:
        self.name, self.protocol = name, protocol
        self._reader = reader

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples, in their order."""
        return self._reader.names

    def __len__(self) -> int:
        return len(self._reader.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        try:
            return self._reader.read(index)
        except BadFileError as exc:
            raise BadFileError(f"{self.name} sample {name!r}: {exc}", hint=exc.hint) from exc

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def depth_sample(name: str, image: NDArray[np.uint8], depth: NDArray[Any]) -> Sample:
    """Make a sample whose depth is valid where it is finite and positive.

    Raises:
        BadFileError: the map and the image differ in size.
    """
    check_shape(depth, image, "the depth map")
    valid = np.isfinite(depth) & (depth > 0)
    return Sample(name, image, valid, depth=np.where(valid, depth, 0).astype(np.float32))


def check_shape(values: NDArray[Any], image: NDArray[np.uint8], what: str) -> None:
    """Raise :class:`BadFileError` unless the map ``values`` (H, W) and ``image`` have the same size."""
    if values.shape != image.shape[:2]:
        raise BadFileError(
            f"{what} is {_size(values.shape)}, the image {_size(image.shape)} (height x width)",
            hint="image and ground truth must come from the same release: download both again",
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:2]))
