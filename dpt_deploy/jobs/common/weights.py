"""Find the weights of a model: random, a file, shipped with the package, or published. Needs no PyTorch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Recipe, load_recipe, zoo_names
from dpt_deploy.core.spec import ModelSpec, TaskChoice
from dpt_deploy.model.checkpoints import published
from dpt_deploy.model.checkpoints.fetch import fetch
from dpt_deploy.model.decoders import form_of

SHIPPED_LICENCE = "MIT"
SHIPPED_TERMS = ("yes", "scenes rendered by this package; no photograph, data set or weights of others")
_NO_DATA = "none: random weights have learned nothing"
_UNKNOWN_DATA = "not known: a file of your own, which is none of the published ones"
_CHECKS = {
    "64 digits": "checked by all 64 digits of its SHA-256",
    "8 digits": "checked by 8 digits of its SHA-256, since no more are published; the hash of the first copy is pinned",
    "length": "checked by its length, since no hash is published; the hash of the first copy is pinned",
}
_RANDOM = re.compile(r"random(?::(\d+))?")


def resolve_weights(
    text: Path | str | None, recipe: Recipe, *, entry: str = "", commercial: bool = False
) -> WeightsSource:
    """Find the weights that ``--weights`` names.

    ``text`` is ``random`` or ``random:SEED``, a file or folder, the name of a shipped or published checkpoint, or None
    for the recipe's own. A published checkpoint is downloaded once, and its hash is checked. ``entry`` names one of
    several networks in a training checkpoint. With ``commercial``, weights that may not be used commercially are
    refused before they are downloaded (see :func:`check_commercial`).

    Raises:
        UsageError: ``text`` is empty; ``entry`` without a file; nothing is published for the recipe; or not for
            commercial use.
        ResourceError: the download failed.
        BadFileError: ``text`` names neither a file nor a checkpoint; or the downloaded file has another hash.
    """
    text = None if text is None else str(text)
    if text is not None and not text.strip():
        raise UsageError("--weights is empty", hint="give a file, a published name or random, or leave --weights out")
    parted = recipe.model.has_joint_scores and not form_of(recipe.model).shared
    if text is None and parted and not shipped_for(recipe):
        raise UsageError(
            f"no weights are published for depth and segmentation in one network, as {recipe.name!r} was asked for",
            hint="join two checkpoints with `dpt-deploy convert --task both`, and give --weights FILE",
        )
    match = _RANDOM.fullmatch(text or "")
    if text and not match and _is_there(text):
        # Not resolved: the name that a link has in a folder of Hugging Face says that config.json belongs to it.
        return WeightsSource(
            "file", path=str(Path(text).absolute()), entry=entry, commercial="unclear", training_data=_UNKNOWN_DATA
        )
    if entry:
        raise UsageError(
            f"--entry {entry} names a part of a checkpoint file, and --weights is not a file",
            hint="give --weights FILE, or leave --entry out",
        )
    if match:
        return WeightsSource("random", seed=int(match[1] or 0), commercial="yes", training_data=_NO_DATA)
    if found := published.shipped_path(text) if text else shipped_for(recipe):
        use, data = SHIPPED_TERMS
        return WeightsSource("shipped", path=found.name, licence=SHIPPED_LICENCE, commercial=use, training_data=data)
    if text is None:
        _refuse_part(recipe)
    known = published.find(text) if text else published.default_for(recipe.name, recipe.model.task)
    if known is None:
        raise BadFileError(
            f"weights {text!r}: no such file, and no published checkpoint of that name",
            hint="give a file, a Hugging Face folder, a name listed by `dpt-deploy models`, or random",
        )
    source = _with_terms(WeightsSource("published", path=known.file, checked=known.checked), known)
    if commercial:
        check_commercial(source)
    source = replace(source, path=str(fetch(known)))
    say(f"{known.file}: {_CHECKS[known.checked]}")
    say(f"{known.file}: {terms(source)}")
    return source


def _refuse_part(recipe: Recipe) -> None:
    """Raise :class:`UsageError` for the classes alone of a network whose own weights return depth, too."""
    path = published.shipped_path(recipe.name)
    if path and recipe.model.task == "segmentation" and load_recipe(path.stem).model.has_joint_scores:
        raise UsageError(
            f"the weights of {recipe.name!r} are for depth and classes in one network, not for classes alone",
            hint="use --task both and read its classes, or --task depth",
        )


def _is_there(text: str) -> bool:
    """Return True for an existing path; a text that can be no path, such as one too long, is none."""
    try:
        return Path(text).exists()
    except OSError:
        return False


def check_network(spec: ModelSpec, source: WeightsSource) -> None:
    """Refuse a published file that is loaded into another network than its own; keys and shapes alone may agree.

    A network that is no recipe of the zoo, or a changed one, gets a warning instead: the change may be meant.

    Raises:
        BadFileError: the file belongs to another recipe of the zoo.
    """
    known = published.with_hash(source.sha256) if source.sha256 else None
    if known is None or spec.task not in known.tasks:
        return
    task: TaskChoice = "both" if spec.has_joint_scores else spec.task
    own = load_recipe(known.recipe, task=task).model
    if _plain(spec, own) == own:
        return
    what = f"{source.path} is the published file {known.file} of {known.recipe!r}"
    if spec.name not in zoo_names() or load_recipe(spec.name, task=task).model != spec:
        say(f"warning: {what}; {spec.name!r} describes another network, and its numbers may mean nothing")
        return
    raise BadFileError(
        f"{what}; it was asked for as {spec.name!r}, whose keys and shapes are the same and whose numbers are not",
        hint=f"use --backbone {known.recipe}",
    )


def warn_of_recipes_alike(spec: ModelSpec, source: WeightsSource, alike: Sequence[str]) -> None:
    """Warn that a file whose hash is not known fits the recipes ``alike`` as well as that of ``spec``."""
    if alike and published.with_hash(source.sha256) is None:
        say(
            f"warning: the keys and shapes of {source.path} fit {', '.join(alike)} as well as {spec.name}, and its "
            "hash is unknown: only your choice of --backbone decides which network it is; a wrong one gives nonsense"
        )


def _plain(spec: ModelSpec, own: ModelSpec) -> ModelSpec:
    """``spec`` under the name of ``own``, with its values for what no tensor shows and what a recipe may plant."""
    encoder = spec.encoder
    if type(encoder) is type(own.encoder):
        free = {*encoder.planted, *encoder.hidden}
        whole = {each.name: getattr(own.encoder, each.name) for each in fields(encoder) if each.name in free}
        encoder = replace(encoder, **whole)
    return replace(spec, name=own.name, encoder=encoder)


def settle_terms(source: WeightsSource, *, commercial: bool) -> WeightsSource:
    """``source`` with the terms of the published file that a user's file is by its hash, if any.

    Raises:
        UsageError: ``commercial``, and it may not be used commercially.
    """
    if source.kind != "file":
        return source
    known = published.with_hash(source.sha256)
    source = _with_terms(source, known) if known else source
    if commercial:
        check_commercial(source)
    return source


def check_commercial(source: WeightsSource) -> None:
    """Refuse weights that may not be used commercially; warn where it is unclear.

    Raises:
        UsageError: commercial use is not permitted.
    """
    if source.commercial == "no":
        raise UsageError(
            f"{source} may not be used commercially: {terms(source)}",
            hint="choose other weights, or leave --commercial out",
        )
    if source.commercial != "yes":
        say(f"warning: {source}: {terms(source)}; satisfy yourself before you use them commercially")


def terms(source: WeightsSource) -> str:
    """One line on licence, commercial use and training data."""
    licence = f"licence {source.licence}" if source.licence else "licence not known"
    if not source.commercial:
        return f"{licence}; commercial use not recorded"
    return f"{licence}; commercial use: {source.commercial}; training data: {source.training_data}"


def _with_terms(source: WeightsSource, entry: published.PublishedWeights) -> WeightsSource:
    return replace(source, licence=entry.licence, commercial=entry.commercial, training_data=entry.training_data)


def shipped_for(recipe: Recipe) -> Path | None:
    """Path of the weights of ``recipe`` that ship with the package; None if the recipe has another network.

    Weights for depth and labels serve depth alone, too.
    """
    path = published.shipped_path(recipe.name)
    if path is None:
        return None
    whole = load_recipe(path.stem).model
    return path if recipe.model in (whole, whole.depth_alone()) else None


def checkpoint_path(source: WeightsSource) -> Path:
    """Path of the checkpoint of ``source``; a shipped one is found wherever the package is installed."""
    shipped = published.shipped_path(source.path) if source.kind == "shipped" else None
    return shipped or Path(source.path)
