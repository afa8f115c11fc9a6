"""Candidates of a benchmark, by name: each runs the same weights on the same images.

A candidate is used in two steps. First the file that it runs is made, if it is not there yet, which can take minutes
and much memory (:func:`plain_export`). Then :func:`enter` loads that file, or the PyTorch module, and holds it ready:
in this process, or in a fresh one that does nothing else and so can measure the memory it takes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.runner import ConfiguredRunner, ProviderRunner
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.data_path import BURST, FRAME, DataPath
from dpt_deploy.jobs.common.inputs import model_inputs, reference_input
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.registry import find_runtime, runtimes_of

ORT = "ort"
ENGINE, ENGINE_ON_DEVICE = "trt", "trt-device"
CPU, CUDA = "cpu", "cuda"
CALIBRATION_IMAGES = 4  # of the candidate that NNCF quantises


@dataclass(frozen=True)
class BenchCandidate:
    """One thing that can be timed.

    Attributes:
        name: its name in ``--runtime`` and in results.
        description: what is timed.
        runs: the exported ``model``, the ``engine``, the PyTorch ``module``, or the ``plain`` export of the Hugging
            Face model.
        runtime: the runtime that runs it.
        path: the way of the data: from ``host`` to host, between arrays on the ``device``, the bare ``enqueue`` of an
            engine, or full HD frames, one ``frame`` at a time or overlapping ``frames``.
        compiled: the module is compiled with ``torch.compile``.
        quantised: what quantises the plain export: ``dynamic``, as for ready-made files on model hubs, or ``nncf``.
    """

    name: str
    description: str
    runs: Literal["model", "engine", "module", "plain"]
    runtime: str
    path: DataPath = "host"
    compiled: bool = False
    quantised: Literal["", "dynamic", "nncf"] = ""

    @property
    def needs_gpu(self) -> bool:
        """True if it runs on a GPU only."""
        return self.runs == "engine" or self.path != "host"

    @property
    def needs_module(self) -> bool:
        """True if the PyTorch module is needed to prepare it."""
        return self.runs in ("module", "plain")


_FULL_HD = f"a frame of {'x'.join(map(str, FRAME))} from host to host, resized on the GPU"
_TABLE = (
    BenchCandidate("torch", "PyTorch eager", "module", "torch"),
    BenchCandidate("torch-compile", "torch.compile", "module", "torch", compiled=True),
    BenchCandidate("hf-ort", "the plain export of Hugging Face's model in ONNX Runtime", "plain", ORT),
    BenchCandidate(
        "hf-ort-dynamic-int8",
        "that export quantised dynamically by ONNX Runtime's tool, as ready-made files on model hubs are",
        "plain",
        ORT,
        quantised="dynamic",
    ),
    BenchCandidate(
        "hf-openvino-nncf", "that export quantised by NNCF, in OpenVINO", "plain", "openvino", quantised="nncf"
    ),
    BenchCandidate(ENGINE, "the engine, from host to host", "engine", ENGINE),
    BenchCandidate(ENGINE_ON_DEVICE, "the engine between arrays of the device", "engine", ENGINE, "device"),
    BenchCandidate("trt-enqueue-device", "the engine's enqueue alone", "engine", ENGINE, "enqueue"),
    BenchCandidate("trt-frame", f"{_FULL_HD}, one at a time", "engine", ENGINE, "frame"),
    BenchCandidate(
        "trt-frames", f"{_FULL_HD}, {BURST} in a row whose copies overlap with runs, each", "engine", ENGINE, "frames"
    ),
    BenchCandidate("torch-device", "PyTorch eager between arrays of the device", "module", "torch", "device"),
    BenchCandidate(
        "torch-compile-device",
        "torch.compile (max-autotune) between arrays of the device",
        "module",
        "torch",
        "device",
        compiled=True,
    ),
)


def candidates() -> dict[str, BenchCandidate]:
    """Return all candidates by name: the runtimes of exported models that can be timed, then the table."""
    models = [
        BenchCandidate(runtime.name, f"the exported model in {runtime.help}", "model", runtime.name)
        for runtime in runtimes_of(ONNX)
        if runtime.timed
    ]
    return {each.name: each for each in (*models, *_TABLE)}


def find_candidate(name: str) -> BenchCandidate:
    """Return the candidate of this name; raise :class:`UsageError` if there is none."""
    known = candidates()
    if name not in known:
        raise UsageError(f"unknown candidate {name!r}", hint=f"known: {', '.join(known)}")
    return known[name]


def reference_name(names: Iterable[str]) -> str:
    """Return the name of the candidate that ratios refer to: the engine if one is timed, else ONNX Runtime."""
    return ENGINE if any(find_candidate(name).runs == "engine" for name in names) else ORT


def counterpart(name: str, names: Collection[str]) -> str:
    """Return the candidate that ``name`` is compared with: the reference with the same path of data; empty if none."""
    found = reference_name(names)
    if find_candidate(name).path != "host":
        found = ENGINE_ON_DEVICE if found == ENGINE else ""
    return found if found in names and found != name else ""


def describe(name: str, artifact: Artifact, device: str) -> str:
    """Return what exactly is timed under this name."""
    candidate = find_candidate(name)
    if candidate.runs == "module" and device == CUDA:
        return f"{candidate.description}, {find_precision(artifact.sidecar.precision).torch_type} on the GPU"
    return candidate.description


def check(name: str, artifact: Artifact, size: Size, batch: int, device: str = CPU) -> None:
    """Raise :class:`UsageError` if the candidate is unknown or cannot run this model at this size and batch."""
    candidate = find_candidate(name)
    if candidate.path in ("frame", "frames") and batch != 1:
        raise UsageError(f"{name} takes one image at a time, not {batch}", hint="use --batch 1, or leave it out")
    if candidate.runs == "engine" and artifact.sidecar.kind != PLAN:
        raise UsageError(
            f"{name} times engines; {artifact.path.name} is an exported model",
            hint=f"build one first: dpt-deploy build {artifact.path.name}",
        )
    if candidate.path in ("frame", "frames") and len(artifact.sidecar.outputs) > 1:
        outputs = ", ".join(output.name for output in artifact.sidecar.outputs)
        raise UsageError(
            f"{name} resizes one map on the GPU; {artifact.path.name} returns {outputs}",
            hint=f"leave {name} out of --runtime",
        )
    if candidate.runs == "module" and candidate.path == "device" and device != CUDA:
        raise UsageError(f"{name} is timed on a GPU", hint="use --device cuda, or give an engine")
    if candidate.runs == "plain" and (size.height != size.width or artifact.sidecar.model.task != "depth"):
        raise UsageError(
            f"{name} cannot run {artifact.sidecar.model.task} at {size}",
            hint="the plain Hugging Face model takes square images only, and is timed for depth",
        )
    if candidate.runs == "plain":
        _check_side(name, artifact, size)


def _check_side(name: str, artifact: Artifact, size: Size) -> None:
    target = "dpt_deploy.model.checkpoints.huggingface:fixed_side"
    side = load_attribute(target, which="export", purpose=f"the candidate {name}")(artifact.sidecar.model.encoder)
    if side and size != Size(side, side):
        raise UsageError(
            f"{name} cannot run {artifact.sidecar.model.name} at {size}",
            hint=f"the plain Hugging Face model of a hybrid takes {side}x{side} only; leave {name} out of --runtime",
        )


def reference_module(artifact: Artifact) -> Any:
    """Return the PyTorch module behind an artefact."""
    build = load_attribute("dpt_deploy.jobs.common.reference:reference_of", which="export", purpose="timing PyTorch")
    return build(artifact.sidecar)


def plain_export(name: str, module: Any, size: Size, batch: int, folder: Path) -> Path:
    """Return the plain export of the Hugging Face model for the candidate ``name``, made once in ``folder``."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    by = find_candidate(name).quantised
    kind = "export_dynamic_int8" if by == "dynamic" else "export_plain"
    target = f"{__package__}.plain_huggingface:{kind}"
    export_plain = load_attribute(target, which="oracle", purpose=f"the candidate {name}")
    path: Path = export_plain(module, size, batch, folder)
    if by == "nncf":
        quantise = load_attribute(
            f"{__package__}.plain_nncf:quantise_plain", which="openvino", purpose=f"the candidate {name}"
        )
        images = np.stack([images_of(size, batch, seed=seed) for seed in range(CALIBRATION_IMAGES)])
        path = quantise(path, images.transpose(0, 1, 4, 2, 3).astype(np.float32) / 127.5 - 1.0)
    return path


def graph_of(artifact: Artifact) -> Artifact:
    """Return the exported model itself, or the one that an engine was built from, which must be next to it.

    Raises:
        BadFileError: it is missing, or was replaced.
    """
    if artifact.sidecar.kind != PLAN:
        return artifact
    parent = artifact.sidecar.parents[0]
    path = artifact.path.with_name(parent.name)
    found = open_artifact(path) if path.is_file() else None
    if found is None or parent not in found.sidecar.payloads:
        raise BadFileError(
            f"the model {parent.name} that {artifact.path.name} was built from is not next to it",
            hint="put it there with its .json, or build the engine again",
        )
    return found


def enter(
    name: str, artifact: Artifact, file: Path | None, module: Any, images: np.ndarray, device: str = CPU
) -> AbstractContextManager[TimedCall]:
    """Hold a prepared candidate ready over ``images``, (B, H, W, 3) bytes."""
    candidate = find_candidate(name)
    held: AbstractContextManager[TimedCall]
    if candidate.runs == "engine":
        engine_call = load_attribute(f"{__package__}.engine_calls:engine_call", which="trt", purpose="timing an engine")
        held = engine_call(artifact, images, candidate.path)
        return held
    if candidate.runs == "module":
        torch_call = load_attribute(f"{__package__}.torch_calls:torch_call", which="export", purpose="timing PyTorch")
        held = torch_call(
            artifact, module, images, device=device, compiled=candidate.compiled, on_device=candidate.path == "device"
        )
        return held
    if file is None:
        raise UsageError(f"{name} runs a file, which was not prepared", hint="name the file")
    return _file_call(candidate, artifact, file, images)


def import_libraries(name: str) -> None:
    """Import what the candidate computes with, and nothing that :func:`enter` does not import."""
    candidate = find_candidate(name)
    find_runtime(candidate.runtime).load()
    if candidate.runs == "module":
        load_attribute("dpt_deploy.jobs.common.reference:reference_of", which="export", purpose="timing PyTorch")


def images_of(size: Size, batch: int, seed: int = 0) -> np.ndarray:
    """Return the images that every candidate is given, (B, H, W, 3) bytes."""
    return structured_images(batch, size.height, size.width, seed=seed)


@contextmanager
def _file_call(candidate: BenchCandidate, artifact: Artifact, path: Path, images: np.ndarray) -> Iterator[TimedCall]:
    inputs = model_inputs if candidate.runs == "model" else reference_input
    given = inputs(artifact.sidecar, images)
    with open_runner(path, candidate.runtime) as runner:
        providers = runner.providers if isinstance(runner, ProviderRunner) else ()
        runner.infer(given)  # a runtime may choose by the size of its first input
        settings = runner.settings if isinstance(runner, ConfiguredRunner) else {}
        yield TimedCall(lambda: runner.infer(given), runner.synchronize, ", ".join(providers), settings=dict(settings))
