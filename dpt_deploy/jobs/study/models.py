"""Candidates of a study: models by name, recipe or file, exported if needed, on each runtime and precision."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_model, read_sidecar
from dpt_deploy.core.environment import installed
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import atomic_write_bytes, ensure_folder
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.precision import PRECISIONS, find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.core.task import DEPTH_TASKS
from dpt_deploy.jobs.common.limits import check_memory, check_request
from dpt_deploy.jobs.common.runners import default_runtime, open_runner, reference_runtime
from dpt_deploy.jobs.common.weights import checkpoint_path
from dpt_deploy.jobs.study.outcome import Candidate
from dpt_deploy.runtime.registry import REFERENCE, find_runtime

Approximated = tuple[str, tuple[float, ...]]  # name and numbers of an approximate rewrite
Defect = Literal["nearest", "tiled"]  # treatment of a control's positions, see ``resize_grid`` of the ViT encoder


@dataclass(frozen=True)
class CandidateModel:
    """A candidate of the study with its artefact."""

    candidate: Candidate
    artifact: Artifact

    @property
    def key(self) -> str:
        """Identity of its scores: the hash of the model and the version of the runtime."""
        runtime = find_runtime(self.candidate.runtime)
        version = (runtime.package and installed(runtime.package)) or ""
        return f"{self.candidate.sha256} {runtime.name} {version}".strip()

    def runner(self) -> Runner:
        """Make a runner of the model, not yet entered."""
        return open_runner(self.artifact, self.candidate.runtime, reference=True)


def trained_size(models: Sequence[str]) -> Size:
    """Return the training size that all ``models`` share; nothing is exported.

    Raises:
        UsageError: there is no model, one is unknown or returns no depth, or the training sizes differ.
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
        raise UsageError(f"the models were trained at different sizes ({each})", hint="study them one by one")
    return next(iter(sizes.values()))


def check_precisions(models: Sequence[str], precisions: Sequence[str]) -> None:
    """Raise :class:`UsageError` for a precision that models cannot be exported in; exported files keep theirs."""
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown and not all(map(is_file, models)):
        find_precision(unknown[0])


def check_approximations(models: Sequence[str], approximations: Sequence[Approximated]) -> None:
    """Raise :class:`UsageError` for an approximation that a model cannot be exported with."""
    for name in models if approximations else ():
        if is_file(name):
            raise UsageError(f"{name} is exported already", hint="approximations are for networks by name")
        # Loaded when needed: a study of finished files works without the extra.
        check = load_attribute(
            "dpt_deploy.jobs.study.exported:check_approximation", which="export", purpose="exporting"
        )
        for approximation in approximations:
            check(name, approximation)


def check_sizes(models: Sequence[str], sizes: Sequence[Size]) -> None:
    """Raise :class:`UsageError` unless every model takes every size, as far as is known before the export."""
    for name in models:
        model, _ = described(name)
        for size in sizes:
            if is_file(name):
                check_request(read_sidecar(Path(name)), size)
            model.check_size(size)
            check_memory(model, size)


def described(name: str) -> tuple[ModelSpec, ImageSpec]:
    """Return the network and the image rule of a zoo name, a recipe or an exported file."""
    if is_file(name):
        sidecar = read_sidecar(Path(name))
        return sidecar.model, sidecar.image
    recipe = load_recipe(name)
    return recipe.model, recipe.image


def is_file(name: str) -> bool:
    """Return True for an exported file, False for a zoo name or a recipe."""
    return name.endswith(".onnx")


def candidates(
    models: Sequence[str],
    weights: str | None,
    runtimes: Sequence[str],
    precisions: Sequence[str],
    folder: Path,
    approximations: Sequence[Approximated] = (),
    scored: Sequence[str] = DEPTH_TASKS,
) -> list[CandidateModel]:
    """Make the candidates: every model at every precision on every runtime, exported to ``folder`` if needed.

    Each of ``approximations`` is one more network for every model by name. ``scored`` names the tasks whose output will
    be scored: it is reported where a model has others.

    For ``ort``, ``emu`` runs 16-bit graphs, because ONNX Runtime's CPU would compute them in FP32.

    Raises:
        UsageError: an option does not suit a model, or two candidates have the same name.
        BadFileError: an artefact or checkpoint is unusable.
    """
    _check(models, weights, runtimes)
    artifacts = [
        _artifact(name, weights, precision, folder, approximation)
        for name in models
        for approximation in ([None] if is_file(name) else [None, *approximations])
        for precision in ([None] if is_file(name) else precisions)
    ]
    _check_torch(artifacts, runtimes)
    for sidecar in {each.sidecar.model.name: each.sidecar for each in artifacts}.values():
        own = [output.name for output in sidecar.outputs if output.task in scored]
        if others := [output.name for output in sidecar.outputs if output.task not in scored]:
            say(f"{sidecar.model.name}: {', '.join(own)} is scored; {', '.join(others)} is not")
    several = len({artifact.sidecar.precision for artifact in artifacts}) > 1
    found = []
    for artifact, runtime in product(artifacts, runtimes):
        parts = [artifact.sidecar.model.name]
        parts += [artifact.sidecar.precision] if several else []
        parts += [_approximation(artifact.sidecar)] if artifact.sidecar.approximation else []
        parts += [runtime] if len(runtimes) > 1 else []
        found.append(_candidate(artifact, _candidate_runtime(artifact.sidecar, runtime), " ".join(parts)))
    names = [each.candidate.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two models are called {twice[0]!r}", hint="study them one by one, in two folders")
    return found


def control_of(original: CandidateModel, defect: Defect, folder: Path) -> CandidateModel:
    """Make the control: the model and weights of ``original``, but positions that are not interpolated.

    It is exported like any other model, from a recipe written to ``folder``.
    """
    sidecar = original.artifact.sidecar
    name = f"{sidecar.model.name}-{defect}"
    recipe = folder / f"{name}.toml"
    ensure_folder(folder)
    atomic_write_bytes(recipe, _recipe_text(sidecar, name, defect).encode())
    source = sidecar.weights
    weights = f"random:{source.seed}" if source.is_random else str(checkpoint_path(source))
    say(f"exporting the control {name}")
    artifact = _exported(str(recipe), folder, weights=weights, opset=sidecar.opset)
    return _candidate(artifact, original.candidate.runtime, name, control=defect)


def can_be_control(candidate: CandidateModel) -> bool:
    """Return True if the model has positions in FP32 and its weights file exists, so a control can be made."""
    sidecar = candidate.artifact.sidecar
    available = sidecar.weights.is_random or checkpoint_path(sidecar.weights).exists()
    return "position_resize" in sidecar.model.encoder.planted and candidate.candidate.is_exact and available


def _check(models: Sequence[str], weights: str | None, runtimes: Sequence[str]) -> None:
    exported = [name for name in models if not is_file(name)]
    if weights and re.fullmatch(r"random(:\d+)?", weights) is None and len(exported) != 1:
        raise UsageError(f"--weights {weights} is for one model; {len(exported)} are to be exported", hint="name one")
    for runtime in runtimes:
        find_runtime(runtime).load()


def _check_torch(artifacts: Sequence[Artifact], runtimes: Sequence[str]) -> None:
    for runtime, artifact in product(map(find_runtime, runtimes), artifacts):
        if REFERENCE in runtime.runs and not runtime.computes(artifact.sidecar.precision):
            raise UsageError(
                f"runtime {runtime.name} runs the FP32 reference, not {artifact.sidecar.precision}",
                hint="leave it out, or study fp32 only",
            )


def _artifact(
    name: str, weights: str | None, precision: str | None, folder: Path, approximation: Approximated | None
) -> Artifact:
    if precision is None:
        return open_model(Path(name))
    numbers = f", {approximation[0]} {', '.join(f'{value:g}' for value in approximation[1])}" if approximation else ""
    say(f"exporting {name} in {precision}{numbers}")
    return _exported(name, folder, weights=weights, precision=precision, approximation=approximation)


def _approximation(sidecar: Sidecar) -> str:
    return str(sidecar.approximation) if sidecar.approximation else ""


def _exported(recipe: str, folder: Path, **options: Any) -> Artifact:
    # Loaded when needed: a study of finished files works without the extra.
    export = load_attribute("dpt_deploy.jobs.study.exported:export_for_study", which="export", purpose="exporting")
    artifact: Artifact = export(recipe, folder, **options)
    return artifact


def _candidate_runtime(sidecar: Sidecar, runtime: str) -> str:
    """Return the runtime whose numbers are evidence instead of the default one, which computes 16 bits in FP32."""
    return reference_runtime(sidecar) if runtime == default_runtime(sidecar) else runtime


def _candidate(artifact: Artifact, runtime: str, name: str, *, control: str = "") -> CandidateModel:
    sidecar = artifact.sidecar
    candidate = Candidate(
        name=name,
        model=sidecar.model.name,
        family=sidecar.model.encoder.family,
        runtime=runtime,
        precision=sidecar.precision,
        file=artifact.path.name,
        sha256=_digest(sidecar),
        weights=str(sidecar.weights),
        random=sidecar.weights.is_random,
        control=control,
        approximation=_approximation(sidecar),
    )
    return CandidateModel(candidate, artifact)


def _digest(sidecar: Sidecar) -> str:
    """Hash of the model file, or of the list of hashes if it has external weights."""
    digests = [payload.sha256 for payload in sidecar.payloads if payload.name != sidecar.golden]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _recipe_text(sidecar: Sidecar, name: str, defect: Defect) -> str:
    """The complete recipe of an artefact, with the defect planted."""
    model = asdict(sidecar.model)
    model["encoder"]["position_resize"] = defect
    del model["name"]
    table = {
        "name": name,
        "description": f"{sidecar.model.name} with a planted defect: the control of a study",
        "opset": sidecar.opset,
        "model": model,
        "image": asdict(sidecar.image),
        "verify": asdict(sidecar.verify),
        "parity": {sidecar.precision: asdict(sidecar.outputs[0].tolerance)},
    }
    return "\n".join(_toml(table)) + "\n"


def _toml(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Format a table as TOML; numbers, strings and lists have the same form as in JSON."""
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{prefix}{key}]"
            yield from _toml(value, f"{prefix}{key}.")
