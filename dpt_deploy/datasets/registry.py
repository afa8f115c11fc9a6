"""Data sets by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.datasets.base import Dataset
from dpt_deploy.datasets.protocols import PROTOCOLS

# name -> module in this package, whose ``open_folder(root, name)`` reads the index
_READERS = {
    "diw": "diw",
    "eth3d": "eth3d",
    "kitti": "kitti",
    "kitti-metric": "kitti",
    "nyu": "nyu",
    "nyu-metric": "nyu",
    "sintel": "sintel",
    "sintel-clean": "sintel",
    "tum": "tum",
    "ade20k": "segmentation",
    "pascal-context": "segmentation",
}


def names() -> list[str]:
    """Names of all known data sets."""
    return sorted(_READERS)


def open_dataset(spec: str) -> Dataset:
    """Open the data set ``NAME:DIR``; only its index is read.

    Raises:
        UsageError: the text has another form, or the name is unknown.
        BadFileError: the folder is missing or incomplete; the message lists the expected and the existing files.
        MissingExtraError: a module that reads its files is not installed.
    """
    name, colon, folder = spec.partition(":")
    if not colon or not folder:
        raise UsageError(f"--data {spec!r} has the wrong form; expected NAME:DIR", hint="for example --data nyu:DIR")
    if name not in _READERS:
        raise UsageError(f"unknown data set {name!r}", hint=f"known: {', '.join(names())}")
    root = Path(folder).expanduser()
    _require_folder(root)
    reader = import_module(f"dpt_deploy.datasets.{_READERS[name]}").open_folder(root, name)
    return Dataset(name, PROTOCOLS[name], reader)


def _require_folder(root: Path) -> None:
    try:
        next(root.iterdir(), None)
    except OSError as exc:
        raise BadFileError(
            f"cannot read the folder {root}: {exc.strerror or exc}",
            hint="name the folder that holds the data set's files",
        ) from exc
