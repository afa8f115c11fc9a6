"""Recipes: TOML files that describe a network, its image rule, and the tolerances of its artefacts.

A recipe may extend another (``base = "hybrid"``) and change a few keys. The recipes in ``dpt_deploy/data/recipes`` are
known by name; a path to a TOML file is accepted wherever a name is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from dpt_deploy.core.decode import decode, hints_of
from dpt_deploy.core.documents import parse_toml, read_regular
from dpt_deploy.core.encoders import EncoderSpec, other_kinds_keys
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.limits import TOML
from dpt_deploy.core.ranges import MAX_BATCH, MAX_CLASSES, Amount, FileStem, Range
from dpt_deploy.core.spec import ImageSpec, MetricTail, ModelSpec, ModelTask, SkyFill, TaskChoice
from dpt_deploy.core.task import TASKS

Table = dict[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed difference between an output and its reference.

    ``max`` and ``mean`` limit the absolute difference divided by the range of the reference. ``disagreement`` limits
    the share of pixels with another label, for graphs that return labels (near ties).
    """

    max: Amount
    mean: Amount
    disagreement: Amount


@dataclass(frozen=True)
class VerifyMatrix:
    """Sizes and batches that ``verify`` tries by default."""

    res: tuple[str, ...]
    batch: tuple[Annotated[int, Range(1, MAX_BATCH)], ...]


@dataclass(frozen=True)
class Segmentation:
    """Changes to a depth recipe for ``--task segmentation``; ``image`` overrides single keys of the image rule."""

    classes: Annotated[int, Range(1, MAX_CLASSES)]
    image: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A validated recipe. ``parity`` maps a precision (``fp32``) to its tolerance."""

    name: FileStem
    description: str
    model: ModelSpec
    image: ImageSpec
    opset: Annotated[int, Range(1, 1000)]
    verify: VerifyMatrix
    parity: dict[str, Tolerance]

    def for_task(self, task: TaskChoice | None, segmentation: Segmentation | None) -> Self:
        """Return this recipe for ``task``; ``both`` is depth with the scores of classes next to it.

        A task that is named is that one alone: depth without the map of the sky or scores of classes.

        Raises:
            UsageError: the recipe describes no such model.
        """
        if task == "depth" and self.model.task == "depth":
            return replace(self, model=self.model.depth_alone())
        if task is None or task == self.model.task:
            return self
        if task == "both" and self.model.has_joint_scores:
            return self
        if task == "depth" or segmentation is None or self.model.task == "segmentation":
            raise UsageError(
                f"recipe {self.name!r} describes a {self.model.task} model, not {task}",
                hint="choose another --backbone, or leave --task out",
            )
        image: ImageSpec = _build(ImageSpec, {**vars(self.image), **segmentation.image}, self.name, "image")
        if task == "both":
            if (image.mean, image.std) != (self.image.mean, self.image.std):
                raise UsageError(
                    f"recipe {self.name!r} normalises images for depth and for segmentation by different numbers",
                    hint="one network sees one image: export two networks",
                )
            return replace(self, model=self.model.with_scores(segmentation.classes))
        return replace(self, model=self.model.with_classes(segmentation.classes), image=image)


def zoo_names() -> list[str]:
    """Return the names that ``--backbone`` accepts, in alphabetical order."""
    return sorted(Path(entry.name).stem for entry in _zoo_folder().iterdir() if entry.name.endswith(".toml"))


def list_models(task: ModelTask | None = None) -> list[str]:
    """List the models of the zoo, by name; with ``task`` those that have a network for it."""
    names = zoo_names()
    return names if task is None else [name for name in names if _has_task(name, task)]


def _has_task(name: str, task: ModelTask) -> bool:
    try:
        load_recipe(name, task=task)
    except UsageError:
        return False
    return True


def load_recipe(
    name: Path | str, *, task: TaskChoice | None = None, classes: int | None = None, model: Table | None = None
) -> Recipe:
    """Load the recipe with this name or in this TOML file.

    Args:
        name: a name of :func:`zoo_names`, or a path that ends in ``.toml``.
        task: ``segmentation`` turns a depth recipe into its segmentation variant, if it describes one; ``both`` adds
            the decoder and the head of that variant to it.
        classes: number of classes of the segmentation model; None: the recipe's.
        model: keys of the ``[model]`` table that replace the recipe's.

    Raises:
        UsageError: no such name, or the recipe has no such task.
        BadFileError: the file is missing or not TOML, or a key is unknown, missing or of the wrong type.
    """
    table, source = _load_merged(str(name), seen=())
    if model:
        table = _merge(table, {"model": model})
    changes = table.pop("segmentation", False)  # false: also of a recipe whose base has the table
    segmentation = None if changes is False else _build(Segmentation, changes, source, "segmentation")
    recipe = _recipe_from_table(table, source).for_task(task, segmentation)
    if classes is None:
        return recipe
    if recipe.model.has_joint_scores:
        return replace(recipe, model=recipe.model.with_scores(classes))
    if recipe.model.task != "segmentation":
        raise UsageError("--classes needs a segmentation model", hint="add --task segmentation")
    return replace(recipe, model=recipe.model.with_classes(classes))


def _zoo_folder() -> Any:
    return files("dpt_deploy") / "data" / "recipes"


def _similar_names(name: str) -> list[str]:
    """Names of the zoo that ``name`` may mean: those of which it has each word, longest first, then similar ones."""
    words = set(name.split("-"))
    within = [known for known in zoo_names() if len(parts := known.split("-")) > 1 and words.issuperset(parts)]
    within.sort(key=lambda known: -len(known.split("-")))
    close = get_close_matches(name, zoo_names(), n=3)
    return list(dict.fromkeys((*within, *close)))[:3]


def _read(name: str) -> tuple[Table, str]:
    if name.endswith(".toml"):
        raw = read_regular(Path(name), TOML, what="recipe", hint="give a zoo name or the path of a TOML file")
    elif name in zoo_names():
        raw = (_zoo_folder() / f"{name}.toml").read_bytes()
    else:
        similar = _similar_names(name)
        meant = f"did you mean {' or '.join(similar)}? " if similar else ""
        raise UsageError(
            f"unknown backbone {name!r}",
            hint=f"{meant}`dpt-deploy models` lists the networks; the path of a recipe file (.toml) is possible, too",
        )
    try:
        return parse_toml(raw), name
    except ValueError as exc:
        raise BadFileError(f"recipe {name} is not valid TOML: {exc}", hint="correct the file at that place") from exc


def _load_merged(name: str, seen: tuple[str, ...]) -> tuple[Table, str]:
    if name in seen:
        raise BadFileError(f"recipe {name} extends itself: {' -> '.join((*seen, name))}", hint="remove one 'base'")
    table, source = _read(name)
    table.setdefault("name", Path(name).stem)
    if "base" in table:
        if not isinstance(table["base"], str):
            raise BadFileError(
                f"recipe {source}: base is {table['base']!r}; expected a name or a file", hint="quote it"
            )
        base, _ = _load_merged(_relative(table.pop("base"), name), (*seen, name))
        table = _merge(base, table)
    return table, source


def _relative(base: str, name: str) -> str:
    return str(Path(name).parent / base) if base.endswith(".toml") else base


def _merge(base: Table, over: Table) -> Table:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _recipe_from_table(table: Table, source: str) -> Recipe:
    for key in ("model", "parity"):
        _require_table(table.get(key, {}), source, key)
    model = {**table.get("model", {}), "name": _value(table["name"], FileStem, source, "name")}
    model["encoder"] = _encoder(model.get("encoder", {}), source)
    if "metric" in model:
        model["metric"] = _build(MetricTail, model["metric"], source, "model.metric")
    if "sky" in model:
        model["sky"] = _build(SkyFill, model["sky"], source, "model.sky")
    values = {
        **table,
        "model": _build(ModelSpec, model, source, "model"),
        "image": _build(ImageSpec, table.get("image", {}), source, "image"),
        "verify": _build(VerifyMatrix, table.get("verify", {}), source, "verify"),
        "parity": {
            precision: _build(Tolerance, tolerance, source, f"parity.{precision}")
            for precision, tolerance in table.get("parity", {}).items()
        },
    }
    recipe: Recipe = _build(Recipe, values, source, "")
    _check_model(recipe, source)
    return recipe


def _encoder(table: Table, source: str) -> EncoderSpec:
    where = "model.encoder"
    _require_table(table, source, where)
    try:
        kind = EncoderSpec.variant(table)
    except ValueError as exc:
        raise BadFileError(f"recipe {source}: {where}.{exc}", hint="set the key to one of those") from exc
    spec: EncoderSpec = _build(
        kind, {key: value for key, value in table.items() if key not in other_kinds_keys(kind)}, source, where
    )
    return spec


def _build(kind: Any, table: Table, source: str, where: str) -> Any:
    """Return ``kind(**table)``; errors name the file, the key and the allowed values."""
    prefix = f"{where}." if where else ""
    _require_table(table, source, where)
    known = {field.name: field for field in fields(kind)}
    hints = hints_of(kind)
    for key in table:
        if key not in known:
            raise BadFileError(
                f"recipe {source}: unknown key {prefix}{key!r}", hint=f"known keys: {', '.join(sorted(known))}"
            )
    for key, entry in known.items():
        if key not in table and entry.default is MISSING and entry.default_factory is MISSING:
            raise BadFileError(f"recipe {source}: key {prefix}{key!r} is missing", hint="every model needs it")
    return kind(**{key: _value(value, hints[key], source, f"{prefix}{key}") for key, value in table.items()})


def _require_table(value: Any, source: str, where: str) -> None:
    if not isinstance(value, dict):
        raise BadFileError(
            f"recipe {source}: {where} is {value!r}; expected a table", hint=f"write [{where}] above its keys"
        )


def _value(value: Any, hint: Any, source: str, where: str) -> Any:
    """Decode ``value`` to the type ``hint``; dataclasses are returned as they are."""
    if is_dataclass(value) or (isinstance(value, dict) and any(map(is_dataclass, value.values()))):
        return value
    try:
        return decode(hint, value, where)
    except ValueError as exc:
        raise BadFileError(f"recipe {source}: {exc}", hint="correct the value") from exc


def _check_model(recipe: Recipe, source: str) -> None:
    for problem, hint in _problems(recipe.model, recipe.image):
        raise BadFileError(f"recipe {source}: {problem}", hint=hint)


def _problems(model: ModelSpec, image: ImageSpec) -> Iterator[tuple[str, str]]:
    """Yield the reasons why no network can be built, or none that takes such images, each with a hint."""
    yield from model.problems()
    if model.encoder.fixed_size not in (None, (image.height, image.width)):
        yield (
            f"images of {image.height}x{image.width} pixels for a network that takes {model.only_size} only",
            "set image.height and image.width to that size",
        )
    for name in model.joint:
        if name not in TASKS or model.joint.count(name) > 1:
            yield f"joint task {name!r} is unknown or named twice", f"known tasks: {', '.join(TASKS)}"
