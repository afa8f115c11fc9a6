"""What can be timed beside our artefact, by name: each a runner over the same weights and the same images."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
Make = Callable[[Artifact, Any, Size, int], AbstractContextManager[Contender]]


def make(name: str) -> Make:
    """How to enter a contender, called with (artefact, reference module, size, batch).

    Raises:
        UsageError: no such contender.
    """
    if name not in _CONTENDERS:
        raise UsageError(f"unknown contender {name!r}", hint=f"known: {', '.join(_CONTENDERS)}")
    return _CONTENDERS[name]


def check(name: str, artifact: Artifact, size: Size) -> None:
    """Raise :class:`UsageError` if the contender is unknown or cannot run this model at this size."""
    make(name)
    if name == "hf-ort" and (size.height != size.width or artifact.sidecar.model.task != "depth"):
        raise UsageError(
            f"hf-ort cannot run {artifact.sidecar.model.task} at {size}",
            hint="the plain Hugging Face model takes square images only, and is timed for depth",
        )


def reference_module(artifact: Artifact) -> Any:
    """The PyTorch module behind an artefact."""
    with extra("export", purpose="timing PyTorch"):
        from dpt_deploy.workflow.reference import reference_of
    return reference_of(artifact.sidecar)


@contextmanager
def _ort(artifact: Artifact, _module: Any, size: Size, batch: int) -> Iterator[Contender]:
    with registry.open_file(artifact.path) as runner:
        yield _call(runner, model_feed(artifact.sidecar, _images(size, batch)))


@contextmanager
def _torch(artifact: Artifact, module: Any, size: Size, batch: int) -> Iterator[Contender]:
    runner_class = registry.runner_class("torch")
    with runner_class(module, artifact.sidecar.inputs, artifact.sidecar.outputs) as runner:
        images = reference_input(artifact.sidecar, _images(size, batch))[INPUT_FLOAT]
        yield _call(runner, {artifact.sidecar.inputs[0].name: images})


@contextmanager
def _torch_compile(artifact: Artifact, module: Any, size: Size, batch: int) -> Iterator[Contender]:
    import torch

    with _torch(artifact, torch.compile(module), size, batch) as contender:
        yield contender
    torch.compiler.reset()


@contextmanager
def _huggingface(artifact: Artifact, module: Any, size: Size, batch: int) -> Iterator[Contender]:
    """The Hugging Face model with the same weights, exported the plain way: static, the exporter's defaults."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with extra("oracle", purpose="the contender hf-ort"):
        from dpt_deploy.workflow.huggingface import export_plain
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as folder:
        path = export_plain(module, size, batch, Path(folder))
        with registry.open_file(path) as runner:
            yield _call(runner, reference_input(artifact.sidecar, _images(size, batch)))


_CONTENDERS: dict[str, Make] = {"torch": _torch, "torch-compile": _torch_compile, "hf-ort": _huggingface, OURS: _ort}


def _images(size: Size, batch: int) -> np.ndarray:
    return structured_images(batch, size.height, size.width)


def _call(runner: Runner, feed: dict[str, np.ndarray]) -> Contender:
    return Contender(run=lambda: runner.infer(feed), synchronize=runner.synchronize)
