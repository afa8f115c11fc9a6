"""Checkpoints by name: those shipped with the package, the published ones, and the folder they are fetched into."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.model.families.registry import licence_of

CommercialUse = Literal["yes", "no", "unclear"]

CACHE_VARIABLE = "DPT_DEPLOY_CACHE"
SHIPPED_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PublishedWeights:
    """One entry of ``data/weights.toml``; ``address`` is empty, and ``size_bytes`` 0, where it is not known.

    ``sha256`` has all 64 digits, the first 8, or none. ``stated_by`` names its source where only others than the
    authors state it: it recognises a file, but a download is not refused for it. ``commercial`` says whether the
    weights may be used commercially, and ``training_data`` why. ``also`` has further tasks of the recipe that the file
    holds.
    """

    file: str
    address: str
    sha256: str
    size_bytes: int
    family: str
    recipe: str
    task: ModelTask
    default: bool
    licence: str
    commercial: CommercialUse
    training_data: str
    stated_by: str = ""
    also: tuple[ModelTask, ...] = ()

    @property
    def tasks(self) -> tuple[ModelTask, ...]:
        """The tasks whose network the file holds."""
        return (self.task, *self.also)

    @property
    def second_hand(self) -> bool:
        """True if only others than the authors state the hash."""
        return bool(self.stated_by)

    @property
    def required_sha256(self) -> str:
        """The digits that a download must have; empty where the authors state none."""
        return "" if self.second_hand else self.sha256

    @property
    def checked(self) -> str:
        """The check that a download passes, as a sidecar states it."""
        return f"{len(self.required_sha256)} digits" if self.required_sha256 else "length"

    @property
    def name(self) -> str:
        """The file's name without its suffix, which ``--weights`` takes as well."""
        return str(PurePosixPath(self.file).with_suffix(""))


@cache
def published() -> tuple[PublishedWeights, ...]:
    """Every published checkpoint that the zoo can build."""
    table = tomllib.loads((files("dpt_deploy") / "data" / "weights.toml").read_text(encoding="utf-8"))
    return tuple(_entry(entry, table["training"]) for entry in table["weights"])


def _entry(entry: dict[str, Any], training: dict[str, Any]) -> PublishedWeights:
    found = {"licence": licence_of(entry["family"]), **entry}
    terms = training[found.pop("training")]
    found["also"] = tuple(found.get("also", ()))
    return PublishedWeights(**found, commercial=terms["commercial"], training_data=terms["data"])


def default_for(recipe_name: str, task: ModelTask) -> PublishedWeights:
    """The checkpoint of a recipe when the user names none.

    Raises:
        UsageError: none was published, or those that were are taken by name only, because of their licence, or
            are a folder or a file that the user fetches.
    """
    found = [entry for entry in published() if entry.recipe == recipe_name and task in entry.tasks]
    for entry in found:
        if entry.default:
            return entry
    if found and not any(entry.address for entry in found):
        raise _not_fetched(recipe_name, Path(found[0].file))
    if found:
        raise UsageError(
            f"the weights of {recipe_name!r} are under {found[0].licence} (commercial use: {found[0].commercial}), "
            "so they are taken by name only",
            hint=f"if your use is permitted, give --weights {found[0].file}; or --weights random for timing work",
        )
    have = sorted({entry.recipe for entry in published() if task in entry.tasks})
    raise UsageError(
        f"no {task} checkpoint of {recipe_name!r} was published",
        hint=f"give --weights FILE, or --weights random for timing work; published for {task}: {', '.join(have)}",
    )


def _not_fetched(recipe_name: str, file: Path) -> UsageError:
    if file.name == str(file):
        return UsageError(
            f"the weights of {recipe_name!r} are the file {file}, which its authors keep on a web drive",
            hint="fetch that file by hand, then give --weights FILE; or --weights random for timing work",
        )
    return UsageError(
        f"the weights of {recipe_name!r} are the folder {file.parent} of Hugging Face, which is not fetched",
        hint="fetch that folder by hand, then give --weights FOLDER; or --weights random for timing work",
    )


def find(name: str) -> PublishedWeights | None:
    """The entry with this file name, with or without its suffix; None when there is none."""
    return next((entry for entry in published() if name in (entry.file, entry.name)), None)


def with_hash(sha256: str) -> PublishedWeights | None:
    """The published file with this full SHA-256, as far as its digits are known; None when there is none."""
    return next((entry for entry in published() if entry.sha256 and sha256.startswith(entry.sha256)), None)


def shipped_path(name: str) -> Path | None:
    """The file of a model whose weights ship with the package, by its name with or without suffix; else None."""
    known = {path.stem: path for path in shipped()}
    return known.get(name.removesuffix(SHIPPED_SUFFIX))


def shipped() -> list[Path]:
    """Every checkpoint that ships with the package; the stem is the recipe's name. Their licence is the package's."""
    folder = Path(str(files("dpt_deploy") / "data" / "weights"))
    return sorted(folder.glob(f"*{SHIPPED_SUFFIX}"))


def cache_folder() -> Path:
    """The folder of downloads: ``$DPT_DEPLOY_CACHE``, else ``$XDG_CACHE_HOME/dpt-deploy``, else ``~/.cache/…``."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own) / "weights"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "dpt-deploy" / "weights"


def is_cached(entry: PublishedWeights) -> bool:
    """True if the cache has a copy of the file; fetching it checks its hash."""
    return (cache_folder() / entry.file).is_file()
