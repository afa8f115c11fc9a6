"""Find the weights of a model: random, a file, shipped with the package, or published. Needs no PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.model.checkpoints import published

_OWN_LICENCE = "MIT"
_RANDOM = re.compile(r"random(?::(\d+))?")


def resolve_weights(text: str | None, recipe: Recipe, *, entry: str = "") -> WeightsSource:
    """Find the weights that ``--weights`` names.

    ``text`` is ``random`` or ``random:SEED``, a file or folder, the name of a shipped or published checkpoint, or None
    for the recipe's own. A published checkpoint is downloaded once, and its hash is checked. ``entry`` names one of
    several networks in a training checkpoint.

    Raises:
        UsageError: ``entry`` without a file, or nothing is published for the recipe.
        ResourceError: the download failed.
        BadFileError: no file and no known name; or the downloaded file has another hash.
    """
    if text is not None and not text.strip():
        raise UsageError("--weights is empty", hint="give a file, a published name or random, or leave --weights out")
    match = _RANDOM.fullmatch(text or "")
    if text and not match and Path(text).exists():
        # Not resolved: the name that a link has in a folder of Hugging Face says that config.json belongs to it.
        return WeightsSource("file", path=str(Path(text).absolute()), entry=entry)
    if entry:
        raise UsageError(
            f"--entry {entry} names a part of a checkpoint file, and --weights is not a file",
            hint="give --weights FILE, or leave --entry out",
        )
    if match:
        return WeightsSource("random", seed=int(match[1] or 0))
    if found := published.shipped_path(text) if text else shipped_for(recipe):
        return WeightsSource("shipped", path=found.name, licence=_OWN_LICENCE)
    known = published.find(text) if text else published.default_for(recipe.name, recipe.model.task)
    if known is None:
        raise BadFileError(
            f"weights {text!r}: no such file, and no published checkpoint of that name",
            hint="give a file, a folder of Hugging Face, a name listed by `dpt-deploy doctor`, or random",
        )
    path = published.fetch(known)
    return WeightsSource("published", path=str(path), licence=known.licence)


def shipped_for(recipe: Recipe) -> Path | None:
    """Path of the weights of ``recipe`` that ship with the package; None if the recipe has another network."""
    path = published.shipped_path(recipe.name)
    return path if path and load_recipe(path.stem).model == recipe.model else None


def checkpoint_path(source: WeightsSource) -> Path:
    """Path of the checkpoint of ``source``; a shipped one is found wherever the package is installed."""
    shipped = published.shipped_path(source.path) if source.kind == "shipped" else None
    return shipped or Path(source.path)
