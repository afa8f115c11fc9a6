"""What a data set is to the rest of the program: named samples, read one at a time.

Opening reads the index only; a sample's files are opened when it is asked for and closed again, so that memory does not
grow with the set.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.protocols import Protocol


@dataclass(frozen=True)
class OrdinalPair:
    """Two points (row, column) of which people said that one is farther away."""

    far: tuple[int, int]
    near: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is known of it.

    ``image`` is RGB (H, W, 3), as the network is to see it before any resizing. ``valid`` (H, W) is where there is
    truth to measure against. One of the others is not None: ``depth`` (H, W) in metres, 0 where not valid; ``labels``
    (H, W), 1-based, 0 where nobody said; or ``pairs``.
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
        """The sample ``names[index]``; raises :class:`BadFileError` when a file of it is missing or damaged."""
        ...


class Dataset:
    """A data set on disk and the protocol that its samples are judged by.

    Indexing and iteration read samples, and raise :class:`BadFileError` with the sample's name where one cannot be
    read; :func:`iterate` goes on past it.
    """

    def __init__(self, name: str, protocol: Protocol, reader: Reader) -> None:
        self.name, self.protocol = name, protocol
        self._reader = reader

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples, in the order in which they come."""
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


def iterate(dataset: Dataset, on_error: Callable[[BadFileError], None]) -> Iterator[Sample]:
    """The samples that can be read; ``on_error`` hears of the others (``failures.append`` names and counts them)."""
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except BadFileError as exc:
            on_error(exc)
        else:
            yield sample


def depth_sample(name: str, image: NDArray[np.uint8], depth: NDArray[Any]) -> Sample:
    """A sample whose depth is valid where it is finite and positive.

    Raises:
        BadFileError: the map is not of the image's size.
    """
    check_shape(depth, image, "the depth map")
    valid = np.isfinite(depth) & (depth > 0)
    return Sample(name, image, valid, depth=np.where(valid, depth, 0).astype(np.float32))


def check_shape(values: NDArray[Any], image: NDArray[np.uint8], what: str) -> None:
    """Raise :class:`BadFileError` unless the map ``values`` (H, W) is of the size of ``image``."""
    if values.shape != image.shape[:2]:
        raise BadFileError(
            f"{what} is {_size(values.shape)}, the image {_size(image.shape)} (height x width)",
            hint="image and ground truth must come from the same release: download both again",
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:2]))
