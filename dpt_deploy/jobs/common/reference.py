"""The PyTorch reference of an artefact: which weights, from where, proven to be the same ones."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.core.spec import INPUT_FLOAT, ModelSpec, TensorSpec
from dpt_deploy.jobs.common.inputs import reference_input
from dpt_deploy.model.checkpoints import published
from dpt_deploy.runtime import registry

if TYPE_CHECKING:
    from dpt_deploy.model.checkpoints.match import LoadReport
    from dpt_deploy.model.dpt import DPT

_OWN_LICENCE = "MIT"
_RANDOM = re.compile(r"random(?::(\d+))?")


def resolve_weights(text: str | None, recipe: Recipe) -> WeightsSource:
    """What ``--weights`` names.

    ``text`` is ``random`` or ``random:SEED``, a file or folder, the name of a shipped or published checkpoint, or None
    for the one that belongs to the recipe. A published checkpoint is downloaded once and its hash checked.

    Raises:
        UsageError: nothing is published for the recipe, or the name is neither a file nor known.
        ResourceError: the download failed.
        BadFileError: the downloaded file has another hash.
    """
    if text is not None and not text.strip():
        raise UsageError("--weights is empty", hint="give a file, a published name or random, or leave --weights out")
    match = _RANDOM.fullmatch(text or "")
    if match:
        return WeightsSource("random", seed=int(match[1] or 0))
    if text and Path(text).exists():
        return WeightsSource("file", path=str(Path(text).resolve()))
    if found := published.shipped_path(text) if text else shipped_for(recipe):
        return WeightsSource("shipped", path=found.name, licence=_OWN_LICENCE)
    entry = published.find(text) if text else published.default_for(recipe.name, recipe.model.task)
    if entry is None:
        raise BadFileError(
            f"weights {text!r}: no such file, and no published checkpoint of that name",
            hint="give a file, a folder of Hugging Face, a name listed by `dpt-deploy doctor`, or random",
        )
    path = published.fetch(entry)
    return WeightsSource("published", path=str(path), licence=entry.licence)


def shipped_for(recipe: Recipe) -> Path | None:
    """The weights of ``recipe`` that ship with the package: they fit the zoo's network of that name and no other."""
    path = published.shipped_path(recipe.name)
    return path if path and load_recipe(path.stem).model == recipe.model else None


def checkpoint_path(source: WeightsSource) -> Path:
    """Where the checkpoint of ``source`` lies; one that ships with the package is found wherever that is installed."""
    shipped = published.shipped_path(source.path) if source.kind == "shipped" else None
    return shipped or Path(source.path)


def build_reference(spec: ModelSpec, source: WeightsSource) -> tuple[DPT, WeightsSource, LoadReport | None]:
    """The module of ``spec`` with the weights of ``source``, whose hash is filled in (and checked where it is known).

    Raises:
        BadFileError: the checkpoint is missing, damaged, of another architecture, or not the one that was exported.
    """
    with extra("export", purpose="building the PyTorch reference"):
        from dpt_deploy.model.checkpoints.load import load_weights
        from dpt_deploy.model.random_weights import random_model
    if source.is_random:
        return random_model(spec, seed=source.seed), source, None
    model, report = load_weights(spec, checkpoint_path(source))
    found = _digest(report.files)
    if source.sha256 and source.sha256 != found:
        raise BadFileError(
            f"{source.path} is not the checkpoint that was exported (sha256 {found[:12]}…, not {source.sha256[:12]}…)",
            hint="name the right one with --weights FILE",
        )
    return model, replace(source, sha256=found, family=report.family), report


def reference_of(sidecar: Sidecar, weights: str | None = None, *, against: Path | None = None) -> DPT:
    """The reference module of an exported artefact; ``weights`` says where its checkpoint lies now.

    ``against`` names another checkpoint for the same network, whatever the artefact was made from.
    """
    source = sidecar.weights
    if against is not None:
        source = WeightsSource("file", path=str(against))
    elif weights:
        if source.is_random:
            raise UsageError("this artefact has random weights; --weights does not apply", hint="leave --weights out")
        source = replace(source, kind="file", path=str(Path(weights).resolve()))
    if not source.is_random and not checkpoint_path(source).exists():
        raise BadFileError(
            f"the checkpoint {source.path} is not there",
            hint="name the artefact's own with --weights FILE, or use --golden, which needs neither it nor PyTorch",
        )
    model = build_reference(sidecar.model, source)[0]
    if (approximation := sidecar.approximation) is None:
        return model
    with extra("export", purpose="approximating the PyTorch reference"):
        from dpt_deploy.model.rewrites.registry import approximated
    return approximated(model, approximation.name, approximation.parameters)


def reference_outputs(model: DPT, sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's outputs for ``images`` (bytes, B, H, W, 3), by the artefact's names and in its form.

    Scores become labels where the artefact ends in ArgMax.
    """
    inputs = [TensorSpec(INPUT_FLOAT, "float32", ("batch", 3, "height", "width"))]
    with registry.runner_class("torch")(model, inputs, sidecar.outputs) as runner:
        found: dict[str, np.ndarray] = runner.infer(reference_input(sidecar, images))
    for output in sidecar.outputs:
        if output.kind.values == "labels" and found[output.name].ndim == len(output.shape) + 1:
            found[output.name] = found[output.name].argmax(axis=1).astype(np.int32)
    return found


def _digest(files: tuple[Path, ...]) -> str:
    """Hash of one file, or of the list of hashes of a sharded checkpoint."""
    digests = [sha256_of(path) for path in sorted(files)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
