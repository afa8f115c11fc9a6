"""The families of checkpoints that can be loaded. A new one is a file next to this one and a line here."""

from __future__ import annotations

from collections.abc import Iterable

from dpt_deploy.core.spec import ModelTask
from dpt_deploy.model.families import (
    depth_anything,
    dpt,
    dpt_dinov2,
    focus,
    huggingface,
    huggingface_backbone,
    levit,
    midas21,
    midas31,
    native,
    nextvit,
)
from dpt_deploy.model.families.family import Family, matches
from dpt_deploy.model.families.foreign import FOREIGN

# The first whose marks all match counts: segmentation before depth (it has one mark more), MiDaS 3.1 before DPT (it
# has DPT's marks too), native keys last.
_FAMILIES: list[Family] = [
    *midas31.FAMILIES,
    *depth_anything.FAMILIES,
    *dpt_dinov2.FAMILIES,
    *dpt.FAMILIES,
    *focus.FAMILIES,
    *nextvit.FAMILIES,
    *levit.FAMILIES,
    *midas21.FAMILIES,
    *huggingface.FAMILIES,
    *huggingface_backbone.FAMILIES,
    *native.FAMILIES,
]

# A part of a key, and the network that has it: for the error message only. The first that is found counts.
_FOREIGN = (("backbone.embeddings.", "a Hugging Face DPT with a separate backbone"),)


def register_family(family: Family) -> None:
    """Add a family; it is tried before the registered ones."""
    _FAMILIES.insert(0, family)


def families() -> tuple[Family, ...]:
    """Every family, in the order in which they are tried."""
    return tuple(_FAMILIES)


def detect(keys: Iterable[str], task: ModelTask | None = None) -> Family | None:
    """The family of a checkpoint with these keys, or None.

    Of a file with the networks of several tasks it is the record of ``task``, if the file has it.
    """
    names = list(keys)
    found = [family for family in _FAMILIES if _has_marks(family, names)]
    first = found[0] if found else None
    if first is None or not first.several:
        return first
    return next((family for family in found if (family.name, family.task) == (first.name, task)), first)


def _has_marks(family: Family, names: list[str]) -> bool:
    return all(any(matches(mark, name) for name in names) for mark in family.marks)


def family_named(name: str) -> Family | None:
    """The family of this name (its image rule and licence do not depend on the task), or None."""
    return next((family for family in _FAMILIES if family.name == name), None)


def licence_of(name: str) -> str:
    """The licence of the weights that were published in this family; empty where none is known."""
    family = family_named(name)
    return family.licence if family else ""


def layouts() -> tuple[str, ...]:
    """The layouts that checkpoints can be written in, as ``convert --to`` names them."""
    return tuple(dict.fromkeys(family.layout for family in _FAMILIES if family.layout))


def foreign(keys: Iterable[str]) -> str | None:
    """The network of a checkpoint that no network of the zoo can hold; None when it is not known."""
    names = list(keys)
    for part, network in (*FOREIGN, *_FOREIGN):
        if any(part in name for name in names):
            return network
    return None
