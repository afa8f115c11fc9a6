"""The networks of the zoo: what each returns, at which size, and the weights that are published or shipped for it.

Everything is read from the recipes and from ``data/weights.toml``. Without PyTorch all but the parameters is known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.recipe import Recipe, list_models, load_recipe, zoo_names
from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.jobs.common.weights import SHIPPED_LICENCE, SHIPPED_TERMS, shipped_for
from dpt_deploy.model.checkpoints import published
from dpt_deploy.runtime.registry import runtimes_of

Place = Literal["shipped", "cached", "to be fetched", "by hand"]
# Keys of a specification in which two networks may differ that have the same layers.
_NUMBERS = ("taps", "activation", "max_depth", "metric", "quantity", "canonical_focal", "png_scale")
_DEFAULTS = {each.name: each.default for each in fields(ModelSpec)}


@dataclass(frozen=True)
class WeightsEntry:
    """One checkpoint of a network. ``place`` is where it is now; ``default`` ones are taken without ``--weights``.

    ``stated_by`` names those who state its hash, if its authors do not.
    """

    file: str
    place: Place
    default: bool
    licence: str
    commercial: str
    training_data: str
    checked: str = ""
    stated_by: str = ""


@dataclass(frozen=True)
class EngineBuild:
    """A build of an engine of a network's FP32 file, without a GPU; ``message`` is the builder's if it failed.

    ``network`` is another one, if the build is recorded for one with the same layers only; ``differences`` then names
    what differs from it: ``taps`` of other blocks, another end of the head, the meaning of the numbers.
    """

    built: bool
    library: str
    size: str
    message: str
    network: str = ""
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        reason = "" if self.built else f": {self.message}"
        text = f"{self.library} builds {'an' if self.built else 'no'} engine at {self.size}{reason}"
        if not self.network:
            return text
        other = f" but for {', '.join(self.differences)}" if self.differences else ""
        return f"not built itself; for {self.network}, which is the same{other}, {text}"

    @property
    def short(self) -> str:
        """The result as a table states it."""
        result = "built" if self.built else "refused"
        return f"like {self.network}, {result}" if self.network else result


@dataclass(frozen=True)
class NetworkEntry:
    """One network with one task. ``parameters`` are None where they were not counted.

    ``size`` is the image size of its training, and the only one where ``fixed``; other sizes are multiples of
    ``stride``. ``engine`` is None where no build is recorded (``benchmarks/engines.py``), not even of its layers.
    """

    name: str
    description: str
    task: ModelTask
    quantity: str
    encoder: str
    size: str
    stride: int
    fixed: bool
    weights: tuple[WeightsEntry, ...]
    parameters: int | None = None
    engine: EngineBuild | None = None

    @property
    def chosen(self) -> WeightsEntry | None:
        """The checkpoint that is taken without ``--weights``, else the first; None if there is none."""
        return next((each for each in self.weights if each.default), next(iter(self.weights), None))

    @property
    def availability(self) -> str:
        """The place of the chosen checkpoint, as a table states it."""
        if self.chosen is None:
            return "none published"
        return self.chosen.place if self.chosen.default else f"{self.chosen.place}, by name"


def list_networks(
    names: Sequence[str] = (), *, task: ModelTask | None = None, parameters: bool = False
) -> list[NetworkEntry]:
    """Describe the networks of these ``names`` (default: all) in alphabetical order.

    A network has a row for its own task, and one for another task with published weights. ``parameters`` counts them,
    which builds each network without memory.

    Raises:
        UsageError: the zoo has no network of one of the names.
        MissingExtraError: ``parameters`` without PyTorch.
    """
    known = zoo_names()
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"the zoo has no network {unknown[0]!r}", hint=f"known: {', '.join(known)}")
    pairs = [(name, each) for name in names or known for each in _tasks_of(name) if task in (None, each)]
    return [_entry(_recipe(name, each), count=parameters) for name, each in pairs]


def runtimes() -> list[dict[str, Any]]:
    """The runtimes that take exported files and engines, and those that are installed here."""
    return [
        {"name": each.name, "runs": list(each.runs), "installed": each.installed} for each in runtimes_of(ONNX, PLAN)
    ]


def _tasks_of(name: str) -> list[ModelTask]:
    own = load_recipe(name).model.task
    others = {task for entry in published.published() if entry.recipe == name for task in entry.tasks} - {own}
    return [own, *sorted(each for each in others if name in list_models(each))]


def _recipe(name: str, task: ModelTask) -> Recipe:
    """The recipe of ``name`` for ``task``; for its own task as it is, with the map of the sky or scores of classes."""
    own = load_recipe(name)
    return own if own.model.task == task else load_recipe(name, task=task)


def _entry(recipe: Recipe, *, count: bool) -> NetworkEntry:
    model, image = recipe.model, recipe.image
    return NetworkEntry(
        name=recipe.name,
        description=recipe.description,
        task=model.task,
        quantity=quantity_of(model),
        encoder=model.encoder.kind,
        size=f"{image.height}x{image.width}",
        stride=model.stride,
        fixed=model.only_size is not None,
        weights=tuple(_weights_of(recipe)),
        parameters=_count(model) if count else None,
        engine=engine_of(recipe) if model.task == load_recipe(recipe.name).model.task else None,
    )


@cache
def _engines() -> dict[str, EngineBuild]:
    table = json.loads((files("dpt_deploy") / "data" / "engines.json").read_text(encoding="utf-8"))
    return {name: EngineBuild(**entry) for name, entry in table.items()}


def engine_of(recipe: Recipe) -> EngineBuild | None:
    """The recorded build for a network, else that of the most similar one with the same layers; None if there is none.

    Layers are the same if two specifications agree in all but :data:`_NUMBERS`, and tap the same last block.
    """
    found = _engines()
    if recipe.name in found:
        return found[recipe.name]
    alike = []
    for name in found:
        other = _own_model(name)
        if _layers(other) == _layers(recipe.model):
            differences = tuple(key for key in _NUMBERS if getattr(other, key) != getattr(recipe.model, key))
            alike.append((len(differences), name, differences))
    if not alike:
        return None
    _, name, differences = min(alike)
    return replace(found[name], network=name, differences=differences)


@cache
def _own_model(name: str) -> ModelSpec:
    return load_recipe(name).model


def _layers(model: ModelSpec) -> ModelSpec:
    """``model`` without the keys that change no layer but the last activation, or the blocks that are tapped."""
    last = max((tap for tap in model.taps if isinstance(tap, int)), default=-1)
    taps = tuple(last if isinstance(tap, int) else tap for tap in model.taps)
    plain: dict[str, Any] = {key: _DEFAULTS[key] for key in _NUMBERS if key != "taps"}
    return replace(model, name="plain", taps=taps, **plain)


def quantity_of(model: ModelSpec) -> str:
    """The meaning of a network's numbers."""
    quantity = model.output_quantity or "classes"
    return f"{quantity}, classes" if model.has_joint_scores else quantity


def _weights_of(recipe: Recipe) -> list[WeightsEntry]:
    model, shipped = recipe.model, shipped_for(recipe)
    found = [each for each in published.published() if each.recipe == recipe.name and model.task in each.tasks]
    own = []
    if shipped:
        own = [WeightsEntry(shipped.name, "shipped", True, SHIPPED_LICENCE, *SHIPPED_TERMS)]
    return [*own, *map(_published_entry, found)]


def _published_entry(entry: published.PublishedWeights) -> WeightsEntry:
    place: Place = "cached" if published.is_cached(entry) else "to be fetched" if entry.address else "by hand"
    return WeightsEntry(
        entry.file,
        place,
        entry.default,
        entry.licence,
        entry.commercial,
        entry.training_data,
        entry.checked,
        entry.stated_by,
    )


def _count(model: ModelSpec) -> int:
    build = load_attribute("dpt_deploy.model.build:build", which="export", purpose="counting parameters")
    return sum(each.numel() for each in build(model).parameters())
