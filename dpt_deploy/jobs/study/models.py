"""What a study compares: models by name, recipe or file, exported where needed, on each runtime and precision."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_model, read_sidecar
from dpt_deploy.core.environment import installed
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import atomic_write_bytes, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import FP32, PRECISIONS, find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.size import Size, check_size
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.jobs.common.limits import check_memory, check_request
from dpt_deploy.jobs.common.reference import checkpoint_path, reference_of
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.study.outcome import Candidate
from dpt_deploy.runtime import registry

_PACKAGES = {"ort": "onnxruntime", "emu": "onnxruntime", "torch": "torch"}  # whose version may move a score
Defect = Literal["nearest", "tiled"]  # how a control treats its positions, see ``model.vit.resize_grid``


@dataclass(frozen=True)
class CandidateModel:
    """A candidate of the study and the artefact behind it."""

    candidate: Candidate
    artifact: Artifact

    @property
    def key(self) -> str:
        """What a score of it stands for: these very weights, on this version of the runtime."""
        runtime = self.candidate.runtime
        version = installed(_PACKAGES.get(runtime, runtime)) or ""
        return f"{self.candidate.sha256} {runtime} {version}".strip()

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """The model, ready to run."""
        sidecar = self.artifact.sidecar
        if self.candidate.runtime != "torch":
            with open_runner(self.artifact, self.candidate.runtime) as runner:
                yield runner
            return
        with registry.runner_class("torch")(reference_of(sidecar), sidecar.inputs, sidecar.outputs) as runner:
            yield runner


def trained_size(models: Sequence[str]) -> Size:
    """The size that all of ``models`` were trained at; nothing is exported to find out.

    Raises:
        UsageError: no model, an unknown one, one that returns no depth, or sizes that differ.
    """
    found = {name: described(name) for name in models}
    for name, (model, _) in found.items():
        if model.task != "depth":
            raise UsageError(f"{name} is a {model.task} model; the study measures depth", hint="choose a depth model")
    sizes = {name: Size(image.height, image.width) for name, (_, image) in found.items()}
    if not sizes:
        raise UsageError("--backbone names no model", hint="for example --backbone tiny,tiny-vit,tiny-conv")
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name} at {size}" for name, size in sizes.items())
        raise UsageError(f"the models were trained at different sizes ({each})", hint="study them one after the other")
    return next(iter(sizes.values()))


def check_precisions(models: Sequence[str], precisions: Sequence[str]) -> None:
    """Raise :class:`UsageError` for one that nothing can be exported in; a file has the one it has."""
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown and not all(map(is_file, models)):
        find_precision(unknown[0])


def check_sizes(models: Sequence[str], sizes: Sequence[Size]) -> None:
    """Raise :class:`UsageError` unless every model takes every size, as far as can be told without exporting."""
    for name in models:
        model, _ = described(name)
        for size in sizes:
            if is_file(name):
                check_request(read_sidecar(Path(name)), size)
            check_size(size, stride=model.stride)
            check_memory(model, size)


def described(name: str) -> tuple[ModelSpec, ImageSpec]:
    """The network and the image rule of a zoo name, a recipe or an exported file."""
    if is_file(name):
        sidecar = read_sidecar(Path(name))
        return sidecar.model, sidecar.image
    recipe = load_recipe(name)
    return recipe.model, recipe.image


def is_file(name: str) -> bool:
    """Whether ``name`` is an exported file, not a zoo name or recipe."""
    return name.endswith(".onnx")


def candidates(
    models: Sequence[str],
    weights: str | None,
    runtimes: Sequence[str],
    precisions: Sequence[str],
    folder: Path,
) -> list[CandidateModel]:
    """Every model at every precision on every runtime; what is not exported yet is exported to ``folder``.

    For ``ort`` a 16-bit graph is run by ``emu``, since ONNX Runtime's CPU would compute it in FP32.

    Raises:
        UsageError: an option that a model cannot honour, or two candidates of one name.
        BadFileError: an artefact or checkpoint is unusable.
    """
    _check(models, weights, runtimes)
    artifacts = [
        _artifact(name, weights, precision, folder)
        for name in models
        for precision in ([None] if is_file(name) else precisions)
    ]
    _check_torch(artifacts, runtimes)
    several = len({artifact.sidecar.precision for artifact in artifacts}) > 1
    found = []
    for artifact, runtime in product(artifacts, runtimes):
        parts = [artifact.sidecar.model.name]
        parts += [artifact.sidecar.precision] if several else []
        parts += [runtime] if len(runtimes) > 1 else []
        found.append(
            _candidate(artifact, reference_runtime(artifact.sidecar) if runtime == "ort" else runtime, " ".join(parts))
        )
    names = [each.candidate.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two models are called {twice[0]!r}", hint="study them one after the other, into two folders")
    return found


def control_of(original: CandidateModel, defect: Defect, folder: Path) -> CandidateModel:
    """The same model with the same weights, whose positions are not interpolated.

    It is exported like any other, from a recipe written to ``folder``.
    """
    sidecar = original.artifact.sidecar
    name = f"{sidecar.model.name}-{defect}"
    recipe = folder / f"{name}.toml"
    ensure_folder(folder)
    atomic_write_bytes(recipe, _recipe_text(sidecar, name, defect).encode())
    source = sidecar.weights
    weights = f"random:{source.seed}" if source.is_random else str(checkpoint_path(source))
    say(f"exporting the control {name}")
    artifact = export_model(ExportRequest(load_recipe(str(recipe)), weights=weights, opset=sidecar.opset), folder)
    return _candidate(artifact, original.candidate.runtime, name, control=defect)


def can_be_control(candidate: CandidateModel) -> bool:
    """Whether the model has positions, and a weights file to make its twin from."""
    sidecar = candidate.artifact.sidecar
    there = sidecar.weights.is_random or checkpoint_path(sidecar.weights).exists()
    return sidecar.model.encoder.kind != "cnn" and sidecar.precision == FP32 and there


def _check(models: Sequence[str], weights: str | None, runtimes: Sequence[str]) -> None:
    exported = [name for name in models if not is_file(name)]
    if weights and re.fullmatch(r"random(:\d+)?", weights) is None and len(exported) != 1:
        raise UsageError(f"--weights {weights} is for one model; {len(exported)} are to be exported", hint="name one")
    for runtime in runtimes:
        registry.runner_class(runtime)


def _check_torch(artifacts: Sequence[Artifact], runtimes: Sequence[str]) -> None:
    typed = [artifact.sidecar.precision for artifact in artifacts if artifact.sidecar.precision != FP32]
    if typed and "torch" in runtimes:
        raise UsageError(
            f"runtime torch runs the FP32 reference, not {typed[0]}", hint="leave it out, or study fp32 by itself"
        )


def _artifact(name: str, weights: str | None, precision: str | None, folder: Path) -> Artifact:
    if precision is None:
        return open_model(Path(name))
    say(f"exporting {name} in {precision}")
    with extra("export", purpose="exporting"):
        request = ExportRequest(load_recipe(name), weights=weights, precision=precision, allow_slower=True)
        return export_model(request, folder)


def _candidate(artifact: Artifact, runtime: str, name: str, *, control: str = "") -> CandidateModel:
    sidecar = artifact.sidecar
    candidate = Candidate(
        name=name,
        model=sidecar.model.name,
        family="convolutional" if sidecar.model.encoder.kind == "cnn" else "transformer",
        runtime=runtime,
        precision=sidecar.precision,
        file=artifact.path.name,
        sha256=_digest(sidecar),
        weights=str(sidecar.weights),
        random=sidecar.weights.is_random,
        control=control,
    )
    return CandidateModel(candidate, artifact)


def _digest(sidecar: Sidecar) -> str:
    """Hash of the model file, or of the list of hashes where its weights lie beside it."""
    digests = [payload.sha256 for payload in sidecar.payloads if payload.name != sidecar.golden]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _recipe_text(sidecar: Sidecar, name: str, defect: Defect) -> str:
    """The recipe of an artefact, whole, with the defect planted."""
    model = sidecar.model.to_dict()
    model["encoder"]["position_resize"] = defect
    del model["name"]
    table = {
        "name": name,
        "description": f"{sidecar.model.name} with a defect planted: the control of a study",
        "opset": sidecar.opset,
        "model": model,
        "image": asdict(sidecar.image),
        "verify": asdict(sidecar.verify),
        "parity": {sidecar.precision: asdict(sidecar.outputs[0].tolerance)},
    }
    return "\n".join(_toml(table)) + "\n"


def _toml(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Lines of TOML; numbers, strings and lists are written as in JSON, which TOML shares."""
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{prefix}{key}]"
            yield from _toml(value, f"{prefix}{key}.")
