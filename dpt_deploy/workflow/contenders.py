"""What can be timed beside our artefact, by name: each a runner over the same weights and the same images.

A contender comes to be in two steps. ``prepare`` makes what it runs (a file, for one that is not exported yet), which
can take minutes and much memory; ``enter`` loads that and holds it ready, in this process or in a fresh one that does
nothing else and so can tell how much memory it takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.bench.timing import Contender
from dpt_deploy.core.artifact import Artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.spec import INPUT_FLOAT, Size
from dpt_deploy.parity.samples import structured_images
from dpt_deploy.runtime import registry
from dpt_deploy.workflow.feeds import model_feed, reference_input

OURS = "ort"  # the contender that ratios refer to


@dataclass(frozen=True)
class Kind:
    """How a contender is entered, called with (artefact, file or module, images); and whether it runs a module.

    ``export``, called with (module, size, batch, folder), makes the file of one that runs neither our artefact nor a
    module.
    """

    enter: Callable[[Artifact, Any, np.ndarray], AbstractContextManager[Contender]]
    runs_module: bool = False
    export: Callable[[Any, Size, int, Path], Path] | None = None


def check_name(name: str) -> None:
    """Raise :class:`UsageError` unless there is a contender of this name."""
    if name not in _KINDS:
        raise UsageError(f"unknown contender {name!r}", hint=f"known: {', '.join(_KINDS)}")


def check(name: str, artifact: Artifact, size: Size) -> None:
    """Raise :class:`UsageError` if the contender is unknown or cannot run this model at this size."""
    check_name(name)
    if name == "hf-ort" and (size.height != size.width or artifact.sidecar.model.task != "depth"):
        raise UsageError(
            f"hf-ort cannot run {artifact.sidecar.model.task} at {size}",
            hint="the plain Hugging Face model takes square images only, and is timed for depth",
        )


def runs_module(name: str) -> bool:
    """Whether the contender is the PyTorch module itself, rather than a file in ONNX Runtime."""
    return _KINDS[name].runs_module


def needs_module(name: str) -> bool:
    """Whether the PyTorch module is needed to prepare the contender."""
    return _KINDS[name].runs_module or _KINDS[name].export is not None


def reference_module(artifact: Artifact) -> Any:
    """The PyTorch module behind an artefact."""
    with extra("export", purpose="timing PyTorch"):
        from dpt_deploy.workflow.reference import reference_of
    return reference_of(artifact.sidecar)


def prepare(name: str, artifact: Artifact, module: Any, size: Size, batch: int, folder: Path) -> Path | None:
    """The file that the contender runs, made in ``folder`` where there is none yet; None for one that runs a module."""
    if runs_module(name):
        return None
    export = _KINDS[name].export
    return export(module, size, batch, folder) if export else artifact.path


def enter(
    name: str, artifact: Artifact, file: Path | None, module: Any, images: np.ndarray
) -> AbstractContextManager[Contender]:
    """Hold a prepared contender ready over ``images`` (B, H, W, 3), as bytes."""
    return _KINDS[name].enter(artifact, module if file is None else file, images)


def import_libraries(name: str) -> None:
    """Import what the contender computes with, and no more of it than entering does."""
    registry.runner_class("torch" if runs_module(name) else "native" if name == "native" else "ort")
    if runs_module(name):
        from dpt_deploy.model import weights, zoo  # noqa: F401


def images_of(size: Size, batch: int) -> np.ndarray:
    """What every contender is given, (B, H, W, 3) bytes."""
    return structured_images(batch, size.height, size.width)


@contextmanager
def _ort(artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[Contender]:
    with registry.open_file(path) as runner:
        yield _call(runner, model_feed(artifact.sidecar, images))


@contextmanager
def _native(artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[Contender]:
    with registry.open_file(path, "native") as runner:
        yield _call(runner, model_feed(artifact.sidecar, images))


@contextmanager
def _torch(artifact: Artifact, module: Any, images: np.ndarray) -> Iterator[Contender]:
    runner_class = registry.runner_class("torch")
    with runner_class(module, artifact.sidecar.inputs, artifact.sidecar.outputs) as runner:
        feed = reference_input(artifact.sidecar, images)[INPUT_FLOAT]
        yield _call(runner, {artifact.sidecar.inputs[0].name: feed})


@contextmanager
def _torch_compile(artifact: Artifact, module: Any, images: np.ndarray) -> Iterator[Contender]:
    import torch

    with _torch(artifact, torch.compile(module), images) as contender:
        yield contender
    torch.compiler.reset()


def _export_plain(module: Any, size: Size, batch: int, folder: Path) -> Path:
    """The Hugging Face model with the same weights, exported the plain way: static, the exporter's defaults."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with extra("oracle", purpose="the contender hf-ort"):
        from dpt_deploy.workflow.huggingface import export_plain
    return export_plain(module, size, batch, folder)


@contextmanager
def _plain(artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[Contender]:
    with registry.open_file(path) as runner:
        yield _call(runner, reference_input(artifact.sidecar, images))


_KINDS = {
    "torch": Kind(_torch, runs_module=True),
    "torch-compile": Kind(_torch_compile, runs_module=True),
    "hf-ort": Kind(_plain, export=_export_plain),
    OURS: Kind(_ort),
    "native": Kind(_native),
}


def _call(runner: Runner, feed: dict[str, np.ndarray]) -> Contender:
    return Contender(run=lambda: runner.infer(feed), synchronize=runner.synchronize)
