"""What can be timed beside our artefact, by name: each a runner over the same weights and the same images.

A contender comes to be in two steps. ``prepare`` makes what it runs (a file, for one that is not exported yet), which
can take minutes and much memory; ``enter`` loads that and holds it ready, in this process or in a fresh one that does
nothing else and so can tell how much memory it takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.runner import ProviderRunner, Runner
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.jobs.bench import gpu_contenders
from dpt_deploy.jobs.common.inputs import model_feed, reference_input
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.registry import find_runtime, runtimes_of

OURS = "ort"  # the contender that ratios refer to; an engine where there is one
ENGINE = "trt"
DEVICE = "-device"  # ends the names of those that are timed between arrays of the GPU
BARE = f"{ENGINE}-enqueue{DEVICE}"
FRAME, FRAMES = f"{ENGINE}-frame", f"{ENGINE}-frames"  # full HD, resized on the GPU: one by one, and overlapping
CPU, CUDA = "cpu", gpu_contenders.CUDA


@dataclass(frozen=True)
class Kind:
    """How a contender is entered, called with (artefact, file or module, images); and whether it runs a module.

    ``export``, called with (module, size, batch, folder), makes the file of one that runs neither our artefact nor a
    module. ``on_cuda`` is how it is entered where PyTorch is to compute on the GPU; ``wants`` is the one kind of
    machine or artefact that it is for. ``what`` says what is timed. ``beside`` is what it is held to where that is not
    the one of its kind; ``single`` says that it takes one image at a time. ``runtime`` is what runs the exported model.
    """

    enter: Callable[[Artifact, Any, np.ndarray], AbstractContextManager[TimedCall]]
    what: str
    runs_module: bool = False
    export: Callable[[Any, Size, int, Path], Path] | None = None
    on_cuda: Callable[[Artifact, Any, np.ndarray], AbstractContextManager[TimedCall]] | None = None
    wants: str = ""
    beside: str = ""
    single: bool = False
    runtime: str = OURS


def ours(names: Iterable[str]) -> str:
    """The contender that ratios refer to."""
    return ENGINE if any(name.startswith(ENGINE) for name in names) else OURS


def counterpart(name: str, names: Collection[str]) -> str:
    """What the contender ``name`` is held to: ours, of those timed on the device the engine there; empty for none."""
    mine = ours(names)
    beside = _kind(name).beside or (mine + DEVICE if name.endswith(DEVICE) else mine)
    return beside if beside in names and beside != name else ""


def describe(name: str, artifact: Artifact, device: str) -> str:
    """What exactly is timed under this name."""
    kind = _kind(name)
    if kind.runs_module and device == CUDA:
        return f"{kind.what}, {find_precision(artifact.sidecar.precision).torch_type} on the GPU"
    return kind.what


def check_name(name: str) -> None:
    """Raise :class:`UsageError` unless there is a contender of this name."""
    _kind(name)


def check(name: str, artifact: Artifact, size: Size, batch: int, device: str = CPU) -> None:
    """Raise :class:`UsageError` if the contender is unknown or cannot run this model at this size and batch."""
    check_name(name)
    if _kind(name).single and batch != 1:
        raise UsageError(f"{name} takes one image at a time, not {batch}", hint="say --batch 1, or leave it out")
    wants = _kind(name).wants
    if wants == PLAN and artifact.sidecar.kind != PLAN:
        raise UsageError(
            f"{name} times engines; {artifact.path.name} is an exported model",
            hint=f"build one first: dpt-deploy build {artifact.path.name}",
        )
    if wants == CUDA and device != CUDA:
        raise UsageError(f"{name} is timed on a GPU", hint="say --device cuda, or give an engine")
    if name == "hf-ort" and (size.height != size.width or artifact.sidecar.model.task != "depth"):
        raise UsageError(
            f"hf-ort cannot run {artifact.sidecar.model.task} at {size}",
            hint="the plain Hugging Face model takes square images only, and is timed for depth",
        )


def runs_module(name: str) -> bool:
    """Whether the contender is the PyTorch module itself, rather than a file in ONNX Runtime."""
    return _kind(name).runs_module


def needs_module(name: str) -> bool:
    """Whether the PyTorch module is needed to prepare the contender."""
    return _kind(name).runs_module or _kind(name).export is not None


def reference_module(artifact: Artifact) -> Any:
    """The PyTorch module behind an artefact."""
    with extra("export", purpose="timing PyTorch"):
        from dpt_deploy.jobs.common.reference import reference_of
    return reference_of(artifact.sidecar)


def prepare(name: str, artifact: Artifact, module: Any, size: Size, batch: int, folder: Path) -> Path | None:
    """The file that the contender runs, made in ``folder`` where there is none yet; None for one that runs a module."""
    if runs_module(name):
        return None
    export = _kind(name).export
    if export:
        return export(module, size, batch, folder)
    return artifact.path if _kind(name).wants == PLAN else graph_of(artifact).path


def graph_of(artifact: Artifact) -> Artifact:
    """The exported model itself, or that which an engine was built of, which must lie beside it.

    Raises:
        BadFileError: it is not there, or is another one by now.
    """
    if artifact.sidecar.kind != PLAN:
        return artifact
    parent = artifact.sidecar.parents[0]
    path = artifact.path.with_name(parent.name)
    found = open_artifact(path) if path.is_file() else None
    if found is None or parent not in found.sidecar.payloads:
        raise BadFileError(
            f"the model {parent.name} that {artifact.path.name} was built of is not beside it",
            hint="put it there with its .json, or build the engine again",
        )
    return found


def enter(
    name: str, artifact: Artifact, file: Path | None, module: Any, images: np.ndarray, device: str = CPU
) -> AbstractContextManager[TimedCall]:
    """Hold a prepared contender ready over ``images`` (B, H, W, 3), as bytes."""
    kind = _kind(name)
    how = kind.on_cuda if kind.on_cuda and device == CUDA else kind.enter
    return how(artifact, module if file is None else file, images)


def import_libraries(name: str) -> None:
    """Import what the contender computes with, and no more of it than entering does."""
    engine = ENGINE if _kind(name).wants == PLAN else _kind(name).runtime
    find_runtime("torch" if runs_module(name) else engine).load()
    if runs_module(name):
        from dpt_deploy.model import initial as zoo  # noqa: F401
        from dpt_deploy.model.checkpoints import load as weights  # noqa: F401


def images_of(size: Size, batch: int) -> np.ndarray:
    """What every contender is given, (B, H, W, 3) bytes."""
    return structured_images(batch, size.height, size.width)


def _kind(name: str) -> Kind:
    """Return the candidate of this name: one of the table, or a runtime that runs exported models.

    Raises:
        UsageError: there is none.
    """
    runtimes = {runtime.name: runtime for runtime in runtimes_of(ONNX) if runtime.timed}
    if name in _KINDS:
        return _KINDS[name]
    if name not in runtimes:
        raise UsageError(f"unknown contender {name!r}", hint=f"known: {', '.join([*runtimes, *_KINDS])}")
    return Kind(partial(_exported, name), f"the exported model in {runtimes[name].help}", runtime=name)


@contextmanager
def _exported(runtime: str, artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[TimedCall]:
    with open_runner(path, runtime) as runner:
        yield _call(runner, model_feed(artifact.sidecar, images))


@contextmanager
def _torch(artifact: Artifact, module: Any, images: np.ndarray) -> Iterator[TimedCall]:
    runner_class = find_runtime("torch").load()
    with runner_class(module, artifact.sidecar.inputs, artifact.sidecar.outputs) as runner:
        feed = reference_input(artifact.sidecar, images)[INPUT_FLOAT]
        yield _call(runner, {artifact.sidecar.inputs[0].name: feed})


@contextmanager
def _torch_compile(artifact: Artifact, module: Any, images: np.ndarray) -> Iterator[TimedCall]:
    import torch

    with _torch(artifact, torch.compile(module), images) as contender:
        yield contender
    torch.compiler.reset()


def _export_plain(module: Any, size: Size, batch: int, folder: Path) -> Path:
    """The Hugging Face model with the same weights, exported the plain way: static, the exporter's defaults."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with extra("oracle", purpose="the contender hf-ort"):
        from dpt_deploy.jobs.bench.plain_huggingface import export_plain
    return export_plain(module, size, batch, folder)


@contextmanager
def _plain(artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[TimedCall]:
    with open_runner(path) as runner:
        yield _call(runner, reference_input(artifact.sidecar, images))


_on_gpu = gpu_contenders.torch_contender
_FULL_HD = f"a frame of {'x'.join(map(str, gpu_contenders.FRAME))} from host to host, resized on the GPU"
_KINDS = {
    "torch": Kind(_torch, "PyTorch eager", runs_module=True, on_cuda=_on_gpu(compiled=False, on_device=False)),
    "torch-compile": Kind(
        _torch_compile, "torch.compile", runs_module=True, on_cuda=_on_gpu(compiled=True, on_device=False)
    ),
    "hf-ort": Kind(_plain, "the plain export of Hugging Face's model in ONNX Runtime", export=_export_plain),
    ENGINE: Kind(gpu_contenders.engine, "the engine, from host to host", wants=PLAN),
    ENGINE + DEVICE: Kind(gpu_contenders.engine_on_device, "the engine between arrays of the device", wants=PLAN),
    BARE: Kind(gpu_contenders.bare_engine, "the engine's enqueue alone", wants=PLAN),
    FRAME: Kind(
        gpu_contenders.frames(overlap=False),
        f"{_FULL_HD}, one at a time",
        wants=PLAN,
        beside=ENGINE + DEVICE,
        single=True,
    ),
    FRAMES: Kind(
        gpu_contenders.frames(overlap=True),
        f"{_FULL_HD}, {gpu_contenders.BURST} in a row whose copies overlap with runs, each",
        wants=PLAN,
        beside=ENGINE + DEVICE,
        single=True,
    ),
    "torch" + DEVICE: Kind(
        _on_gpu(compiled=False, on_device=True), "PyTorch eager between arrays of the device", True, wants=CUDA
    ),
    "torch-compile" + DEVICE: Kind(
        _on_gpu(compiled=True, on_device=True),
        "torch.compile (max-autotune) between arrays of the device",
        True,
        wants=CUDA,
    ),
}


def _call(runner: Runner, feed: dict[str, np.ndarray]) -> TimedCall:
    providers = runner.providers if isinstance(runner, ProviderRunner) else ()
    return TimedCall(lambda: runner.infer(feed), runner.synchronize, ", ".join(providers))
