"""Check of a model repository without a server: configurations against the artefacts that they serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, sidecar_path
from dpt_deploy.core.decode import decode
from dpt_deploy.core.documents import parse_json
from dpt_deploy.core.errors import BadFileError, DptError
from dpt_deploy.core.limits import JSON
from dpt_deploy.core.ranges import FileName
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.serve.config import (
    CONFIG,
    HASH,
    MODEL_FILE,
    NETWORK,
    ends_of,
    image_config,
    network_config,
    read_config,
)
from dpt_deploy.jobs.serve.request import ServedModel, ServeOptions, check_plan, model_path

SELFTEST = "selftest.json"
IMAGE_SIDECAR = "sidecar.json"  # of the network, next to the image model, which may lie on another disk


@dataclass(frozen=True)
class ListedModel:
    """One network of ``selftest.json``: its file, and True if there is a model for images."""

    file: FileName
    image_model: bool


@dataclass(frozen=True)
class SelfTest:
    """Content of ``selftest.json``: the options that a repository was written with, and its networks by name."""

    options: ServeOptions
    models: dict[FileName, ListedModel]
    format: int = 1


def is_repository(folder: Path) -> bool:
    """True if the folder is a model repository that this program has written."""
    return (folder / SELFTEST).is_file()


def read_selftest(folder: Path) -> SelfTest:
    """Read the list of the models of a repository.

    Raises:
        BadFileError: it is missing or damaged.
    """
    path = folder / SELFTEST
    try:
        JSON.check(path, path.stat().st_size)
        found: SelfTest = decode(SelfTest, parse_json(path.read_bytes()))
        if found.format != 1:
            raise ValueError(f"format {found.format!r}; expected 1")
    except (OSError, ValueError) as exc:
        raise BadFileError(
            f"{path} cannot be read: {exc}", hint="write the repository again: dpt-deploy serve-repo"
        ) from exc
    return found


def served_artifact(folder: Path, name: str) -> Artifact:
    """Open the artefact that a repository serves under ``name``.

    Raises:
        BadFileError: there is none of that name, or it is damaged.
    """
    models = read_selftest(folder).models
    if name not in models:
        raise BadFileError(f"{folder} has no network {name!r}", hint=f"it has {', '.join(models)}")
    return open_artifact(model_path(folder, name, models[name].file))


def check_repository(folder: Path) -> tuple[str, ...]:
    """Check every model of a repository; return their names.

    Compared are each configuration with the definition of the server and with the sidecar, each file with its hash,
    and the profiles of plans with each other. How many instances there are, and how long requests wait, is free.

    Raises:
        BadFileError: something is wrong; the message has the first fault, ``details`` have all.
    """
    selftest = read_selftest(folder)
    faults, names = [], []
    for name, listed in selftest.models.items():
        found, model = _network_faults(folder, name, listed, selftest.options)
        names.append(name)
        if listed.image_model:
            names.append(f"{name}_image")
            if model is not None:
                found += list(_image_faults(folder, model))
        faults += [f"{name}: {fault}" for fault in found]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise BadFileError(
            f"{folder} is not fit to serve: {faults[0]}{more}",
            hint="correct it, or write the repository again: dpt-deploy serve-repo",
            details=tuple(faults),
        )
    return tuple(names)


def _network_faults(
    folder: Path, name: str, listed: ListedModel, options: ServeOptions
) -> tuple[list[str], ServedModel | None]:
    try:
        artifact = open_artifact(model_path(folder, name, listed.file))
        model = ServedModel(name, listed.file, artifact.sidecar, options)
        check_plan(model)
        config = read_config(folder / name / CONFIG)
    except DptError as exc:
        return [str(exc)], None
    return list(_differences(config, network_config(model), model)), model


def _differences(config: Any, expected: Any, model: ServedModel) -> Iterator[str]:
    yield from _common(config, expected)
    if config.max_batch_size > expected.max_batch_size or (config.max_batch_size == 0) != (not model.batched):
        yield f"max_batch_size is {config.max_batch_size}; expected {expected.max_batch_size}"
    wanted = {str(index) for index in range(len(model.profiles))}
    for group in config.instance_group:
        if set(group.profile) != wanted:
            yield f"instance_group has the profiles {sorted(group.profile)}; the plan has {sorted(wanted)}"
    if model.profiles and not config.instance_group:
        yield "instance_group is missing: the server would load profile 0 only"
    if config.parameters[HASH].string_value != expected.parameters[HASH].string_value:
        yield f"the configuration was written for another {model.file}"
    for warmup in config.model_warmup:
        if fault := _warmup_fault(warmup, model):
            yield f"warm-up {warmup.name!r} {fault}"


def _common(config: Any, expected: Any) -> Iterator[str]:
    """Differences in what every configuration must have."""
    for field in ("name", "backend", "default_model_filename"):
        if getattr(config, field) != getattr(expected, field):
            yield f"{field} is {getattr(config, field)!r}; expected {getattr(expected, field)!r}"
    for field in ("input", "output"):
        found, wanted = ends_of(getattr(config, field)), ends_of(getattr(expected, field))
        if found != wanted:
            yield f"{field} is {_ends(config, found)}; the model has {_ends(config, wanted)}"


def _ends(config: Any, ends: dict[str, tuple[int, tuple[int, ...]]]) -> str:
    types = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    return ", ".join(f"{name} {types[kind].name}{list(dims)}" for name, (kind, dims) in ends.items())


def _warmup_fault(warmup: Any, model: ServedModel) -> str:
    entry = model.sidecar.inputs[0]
    if entry.name not in warmup.inputs:
        return f"has no input {entry.name!r}"
    shape = list(warmup.inputs[entry.name].dims)
    if model.batched:
        shape = [max(warmup.batch_size, 1), *shape]
    if len(shape) != len(entry.shape):
        return f"has {len(shape)} dimensions; the model has {len(entry.shape)}"
    found = {dim: number for dim, number in zip(entry.shape, shape, strict=True) if isinstance(dim, str)}
    wrong = any(isinstance(dim, int) and dim != number for dim, number in zip(entry.shape, shape, strict=True))
    size = Size(found.get("height", 1), found.get("width", 1))
    stride = model.sidecar.shapes.stride
    if wrong or ("height" in found and (size.height % stride or size.width % stride)):
        return f"has the shape {shape}, which the model does not take"
    if model.profiles and not any(profile.takes(found.get("batch", 1), size) for profile in model.profiles):
        return f"has the shape {shape}, which no profile takes"
    return ""


def _image_faults(folder: Path, model: ServedModel) -> Iterator[str]:
    name = model.image_name
    try:
        config = read_config(folder / name / CONFIG)
        same = _sidecar(model_path(folder, name, IMAGE_SIDECAR)) == _sidecar(
            sidecar_path(model_path(folder, model.name, model.file))
        )
    except (BadFileError, OSError, ValueError) as exc:
        yield f"{name}: {exc}"
        return
    for fault in _common(config, image_config(model)):
        yield f"{name}: {fault}"
    if config.parameters[NETWORK].string_value != model.name:
        yield f"{name}: it calls {config.parameters[NETWORK].string_value!r}; expected {model.name!r}"
    if not same:
        yield f"{name}: its sidecar is not that of {model.file}"
    if not model_path(folder, name, MODEL_FILE).is_file():
        yield f"{name}: {MODEL_FILE} is missing"


def _sidecar(path: Path) -> Sidecar:
    return Sidecar.from_json(path.read_bytes())
