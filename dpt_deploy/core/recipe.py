"""Recipes: TOML files that describe a network, its image rule, and the tolerances of its artefacts.

A recipe may extend another (``base = "hybrid"``) and change a few keys. The recipes in ``dpt_deploy/data/recipes`` are
known by name; a path to a TOML file is accepted wherever a name is.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, get_type_hints

from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.spec import EncoderSpec, ImageSpec, MetricTail, ModelSpec, Task

Table = dict[str, Any]
PATCHES = (16, 8)  # pixels a side of one token: the paper's (§3.1), and half of it for small images


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed difference between an output and its reference.

    ``max`` and ``mean`` limit the absolute difference divided by the range of the reference. ``disagreement`` limits
    the share of pixels with another label, for graphs that return labels (near ties).
    """

    max: float
    mean: float
    disagreement: float


@dataclass(frozen=True)
class VerifyMatrix:
    """Sizes and batches that ``verify`` tries by default."""

    res: tuple[str, ...]
    batch: tuple[int, ...]


@dataclass(frozen=True)
class Segmentation:
    """Changes to a depth recipe for ``--task segmentation``; ``image`` overrides single keys of the image rule."""

    classes: int
    image: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A validated recipe. ``parity`` maps a precision (``fp32``) to its tolerance."""

    name: str
    description: str
    model: ModelSpec
    image: ImageSpec
    opset: int
    verify: VerifyMatrix
    parity: dict[str, Tolerance]

    def for_task(self, task: Task | None, segmentation: Table | None = None) -> Self:
        """Return this recipe for ``task``.

        Raises:
            UsageError: the recipe describes no such model.
        """
        if task is None or task == self.model.task:
            return self
        if task == "depth" or not segmentation:
            raise UsageError(
                f"recipe {self.name!r} describes a {self.model.task} model, not {task}",
                hint="choose another --backbone, or leave --task out",
            )
        image: ImageSpec = _build(
            ImageSpec, {**_as_table(self.image), **segmentation.get("image", {})}, self.name, "image"
        )
        return replace(self, model=self.model.with_classes(segmentation["classes"]), image=image)


def zoo_names() -> list[str]:
    """Return the names that ``--backbone`` accepts, in alphabetical order."""
    return sorted(Path(entry.name).stem for entry in _zoo_folder().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str, *, task: Task | None = None, classes: int | None = None) -> Recipe:
    """Load the recipe with this name or in this TOML file.

    Args:
        name: a name of :func:`zoo_names`, or a path that ends in ``.toml``.
        task: ``segmentation`` turns a depth recipe into its segmentation variant, if it describes one.
        classes: number of classes of the segmentation model; None: the recipe's.

    Raises:
        UsageError: no such name, or the recipe has no such task.
        BadFileError: the file is missing or not TOML, or a key is unknown, missing or of the wrong type.
    """
    table, source = _load_merged(name, seen=())
    segmentation = table.pop("segmentation", None)
    recipe = _recipe_from_table(table, source)
    if classes is not None and segmentation is not None:
        segmentation = {**segmentation, "classes": classes}
    recipe = recipe.for_task(task, segmentation)
    if classes is not None and recipe.model.task != "segmentation":
        raise UsageError("--classes needs a segmentation model", hint="add --task segmentation")
    return recipe if classes is None else replace(recipe, model=recipe.model.with_classes(classes))


def _zoo_folder() -> Any:
    return files("dpt_deploy") / "data" / "recipes"


def _read(name: str) -> tuple[Table, str]:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise BadFileError(f"recipe {name} does not exist", hint="give a zoo name or the path of a TOML file")
        raw = path.read_bytes()
    elif name in zoo_names():
        raw = (_zoo_folder() / f"{name}.toml").read_bytes()
    else:
        raise UsageError(
            f"unknown backbone {name!r}", hint=f"known: {', '.join(zoo_names())}; or the path of a recipe file (.toml)"
        )
    try:
        return tomllib.loads(raw.decode()), name
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
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
    model = {**table.get("model", {}), "name": table["name"]}
    model["encoder"] = _build(EncoderSpec, model.get("encoder", {}), source, "model.encoder")
    if "metric" in model:
        model["metric"] = _build(MetricTail, model["metric"], source, "model.metric")
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
    _check_model(recipe.model, source)
    return recipe


def _build(kind: type[Any], table: Table, source: str, where: str) -> Any:
    """Return ``kind(**table)``; errors name the file, the key and the allowed values."""
    prefix = f"{where}." if where else ""
    _require_table(table, source, where)
    known = {field.name: field for field in fields(kind)}
    hints = get_type_hints(kind)
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


def _check_model(model: ModelSpec, source: str) -> None:
    if len(model.taps) != 4 or len(model.reassemble_channels) != 4:
        raise BadFileError(
            f"recipe {source}: {len(model.taps)} taps and {len(model.reassemble_channels)} reassemble_channels",
            hint="a DPT fuses exactly four features, finest first",
        )
    blocks = [tap for tap in model.taps if isinstance(tap, int)]
    depth = 0 if model.encoder.kind == "cnn" else model.encoder.depth
    wrong = [tap for tap in blocks if not 0 <= tap < depth]
    if wrong:
        raise BadFileError(
            f"recipe {source}: tap {wrong[0]} of an encoder of {depth} blocks",
            hint="block taps count from 0; feature maps of a convolutional stage are named 'stage0', 'stage1', …",
        )
    patches = {"cnn": (model.encoder.patch,), "hybrid": PATCHES[:1], "vit": PATCHES}[model.encoder.kind]
    if model.encoder.patch not in patches:
        raise BadFileError(
            f"recipe {source}: patches of {model.encoder.patch} pixels; expected {' or '.join(map(str, patches))}",
            hint="reassembling to 1/4, 1/8, 1/16 and 1/32 is defined for those",
        )
    if (model.task == "segmentation") != (model.num_classes > 0):
        raise BadFileError(
            f"recipe {source}: task {model.task!r} with {model.num_classes} classes", hint="set model.num_classes"
        )
    _check_stage_taps(model, source)


def _check_stage_taps(model: ModelSpec, source: str) -> None:
    channels = model.encoder.stage_channels
    for level, (tap, wanted) in enumerate(zip(model.taps, model.reassemble_channels, strict=True)):
        if not isinstance(tap, str):
            continue
        if tap != f"stage{level}":
            raise BadFileError(
                f"recipe {source}: tap {level} is {tap!r}, whose resolution does not fit",
                hint=f"the map at that level (1/{4 << level} resolution) is 'stage{level}'",
            )
        found = channels[level] if level < len(channels) else None
        if found != wanted:
            raise BadFileError(
                f"recipe {source}: reassemble_channels[{level}] is {wanted}, but {tap!r} has {found} channels",
                hint="a tapped feature map enters the decoder as it is: the numbers must agree",
            )


def _as_table(image: ImageSpec) -> Table:
    return {field.name: getattr(image, field.name) for field in fields(image)}
