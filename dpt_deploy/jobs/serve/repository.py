"""Write a model repository, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template

from dpt_deploy.artifact.folders import check_place, replaced_folder
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, sidecar_path
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.serve.check import IMAGE_SIDECAR, SELFTEST, check_repository
from dpt_deploy.jobs.serve.config import CONFIG, MODEL_FILE, image_config, network_config, to_text
from dpt_deploy.jobs.serve.request import ServedModel, ServeOptions, model_path, served_models


def write_repository(
    artifacts: Sequence[Path | str], out: Path | str, options: ServeOptions | None = None, *, force: bool = False
) -> tuple[Path, ...]:
    """Write a Triton model repository of ``artifacts`` to the folder ``out``; return the folders of its models.

    Each network keeps its artefact whole, with sidecar and golden tensors. What was written is checked before it is
    moved to its place. ``force`` replaces a repository that this command has written.

    Raises:
        UsageError: two artefacts of one name, or ``out`` holds something else.
        BadFileError: an artefact is missing, unfinished or damaged.
        IncompatibleError: a plan that Triton cannot serve.
        MissingExtraError: the extra ``serve`` is not installed.
        ResourceError: the folder cannot be written.
    """
    out, options = Path(out), options or ServeOptions()
    opened = [open_artifact(path) for path in artifacts]
    models = served_models(opened, options)
    check_place(out, "a model repository", is_kind=lambda folder: (folder / SELFTEST).is_file(), force=force)
    with replaced_folder(out) as new:
        for artifact, model in zip(opened, models, strict=True):
            _write_model(artifact, model, new)
        _write_guides(models, new, options)
        check_repository(new)
    for model in models:
        if model.sidecar.weights.is_random:
            say(f"{model.name}: weights: {model.sidecar.weights}")
    return tuple(sorted(path.parent for path in out.glob(f"*/{CONFIG}")))


def _write_model(artifact: Artifact, model: ServedModel, folder: Path) -> None:
    version = model_path(folder, model.name, model.file).parent
    version.mkdir(parents=True)
    for payload in artifact.sidecar.payloads:
        shutil.copyfile(artifact.path.with_name(payload.name), version / payload.name)
    shutil.copyfile(sidecar_path(artifact.path), sidecar_path(version / model.file))
    _write_text(folder / model.name / CONFIG, to_text(network_config(model)))
    if not model.options.image:
        return
    version = model_path(folder, model.image_name, MODEL_FILE).parent
    version.mkdir(parents=True)
    _write_text(version / MODEL_FILE, _shipped("image_model.py.in"))
    shutil.copyfile(sidecar_path(artifact.path), version / IMAGE_SIDECAR)
    _write_text(folder / model.image_name / CONFIG, to_text(image_config(model)))


def _write_guides(models: Sequence[ServedModel], folder: Path, options: ServeOptions) -> None:
    lines = [f"- `{model.name}`: {model.file}, {_described(model.sidecar)}" for model in models]
    lines += [f"- `{model.image_name}`: image files for `{model.name}`" for model in models if options.image]
    versions = {f"{model.file} by TensorRT {model.sidecar.engine.version}" for model in models if model.sidecar.engine}
    text = Template(_shipped("README.md")).substitute(
        models="\n".join(lines), tensorrt="; ".join(sorted(versions)) or "there is none here"
    )
    _write_text(folder / "README.md", text)
    _write_text(folder / "client.py", _shipped("client.py.in"))
    listed = {model.name: {"file": model.file, "image_model": options.image} for model in models}
    _write_text(
        folder / SELFTEST, json.dumps({"format": 1, "options": asdict(options), "models": listed}, indent=2) + "\n"
    )


def _described(sidecar: Sidecar) -> str:
    outputs = ", ".join(output.name for output in sidecar.outputs)
    return f"{sidecar.precision}, returns {outputs} (weights: {sidecar.weights})"


def _shipped(name: str) -> str:
    return (files("dpt_deploy") / "data" / "serve" / name).read_text(encoding="utf-8")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
