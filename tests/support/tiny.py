"""Miniature networks: recipes that build in milliseconds, their modules, and exported artefacts shared by the tests."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
from support.reporting import recording
from support.shared_folder import run_folder
from support.traces import traces_kept

from dpt_deploy.artifact.store import Artifact, open_artifact, payload_of, write_sidecar
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import InputKind, ModelSpec
from dpt_deploy.jobs.export import accuracy
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.random_weights import random_model

RECIPES = Path(__file__).with_name("recipes")
TINY = ("tiny-vit", "tiny-hybrid", "tiny-conv", "tiny-seg", "tiny-distilled", "tiny-metric", "tiny-midas")


def tiny_path(name: str) -> str:
    """Value of ``--backbone`` for a tiny recipe."""
    return str(RECIPES / f"{name}.toml")


def tiny_recipe(name: str) -> Recipe:
    return load_recipe(tiny_path(name))


def tiny_spec(name: str) -> ModelSpec:
    return tiny_recipe(name).model


@functools.cache
def tiny_model(name: str, seed: int = 0) -> DPT:
    """The random network of a tiny recipe; shared, so leave it as it is (copy it to change it)."""
    return random_model(tiny_spec(name), seed=seed)


@functools.cache
def exported(
    name: str,
    *,
    precision: str = "fp32",
    opset: int | None = None,
    static: Size | None = None,
    input_kind: InputKind = "float32",
    output_kind: str = "scores",
) -> Artifact:
    """The exported artefact of a tiny recipe, made once a test run; do not change it (see :func:`copied`)."""
    opset = opset or tiny_recipe(name).opset
    with (
        run_folder(f"{name}-{precision}-{opset}-{static}-{input_kind}-{output_kind}") as folder,
        quick_accuracy(),
        traces_kept(),
    ):
        request = ExportRequest(
            tiny_recipe(name),
            weights="random",
            precision=precision,
            res=() if precision == "fp32" else (range_size(tiny_spec(name)),),
            opset=opset,
            static=static,
            input_kind=input_kind,
            output_kind=output_kind,
        )
        return export_model(request, folder).artifact


def typed(name: str, precision: str) -> Artifact:
    """The same, but ``int8-cpu`` is the second file of the export of ``int8``."""
    if precision != "int8-cpu":
        return exported(name, precision=precision)
    engine = exported(name, precision="int8")
    assert engine.sidecar.quantisation is not None
    return open_artifact(engine.path.with_name(engine.sidecar.quantisation.twin))


@contextmanager
def quick_accuracy(speedup: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Iterator[None]:
    """Measure accuracy on two images, and speed not at all: timing is never a test.

    Random weights may have any noise.
    """
    with (
        mock.patch.object(accuracy, "SCENES", 2),
        mock.patch.object(accuracy, "LEAST_SQNR", float("-inf")),
        mock.patch.object(accuracy.AccuracyBench, "speedup", return_value=speedup),
    ):
        yield


def range_size(spec: ModelSpec) -> Size:
    """The size at which ranges of activations are measured."""
    legal = Size(64, 96) if 32 % spec.stride == 0 else Size(4 * spec.stride, 7 * spec.stride)
    return spec.only_size or legal


def exported_for_cpu(folder: Path, **options: Any) -> tuple[Artifact, list[str]]:
    """``tiny-vit`` as ``int8-cpu`` in a folder of its own, and the lines that were reported."""
    request = ExportRequest(
        tiny_recipe("tiny-vit"), weights="random", precision="int8-cpu", res=(Size(64, 64),), **options
    )
    with quick_accuracy(), traces_kept(), recording() as reporter:
        return export_model(request, folder).artifact, reporter.lines


def copied(artifact: Artifact, folder: Path) -> Artifact:
    """Copy an artefact to ``folder``, where a test may spoil it."""
    folder.mkdir(parents=True, exist_ok=True)
    for payload in artifact.sidecar.payloads:
        shutil.copy(artifact.path.with_name(payload.name), folder / payload.name)
    path = folder / artifact.path.name
    write_sidecar(path, artifact.sidecar)
    return open_artifact(path)


def recommitted(artifact: Artifact) -> Artifact:
    """Write a sidecar whose hashes fit the files as they lie there now: an artefact that is whole, and wrong."""
    payloads = tuple(payload_of(artifact.path.with_name(payload.name)) for payload in artifact.sidecar.payloads)
    write_sidecar(artifact.path, replace(artifact.sidecar, payloads=payloads))
    return open_artifact(artifact.path)


def tampered(artifact: Artifact, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Artifact:
    """A copy in ``folder`` whose graph went through ``change`` (in place), with hashes that fit."""
    copy = copied(artifact, folder)
    graph = onnx.load(copy.path)
    change(graph)
    onnx.save(graph, copy.path)
    return recommitted(copy)


def altered(source: Artifact, folder: Path, *prefixes: str) -> Artifact:
    """A copy of ``source`` with other values in the weights whose names begin so (default: in all)."""
    kinds = onnx.TensorProto
    floats = (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16)

    def edit(graph: onnx.ModelProto) -> None:
        for tensor in graph.graph.initializer:
            if tensor.data_type in floats and tensor.name.startswith(prefixes or ""):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array((values * 1.25).astype(values.dtype), tensor.name))

    return tampered(source, folder, edit)
