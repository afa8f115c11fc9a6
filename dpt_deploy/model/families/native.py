"""This program's own files: the model's keys as they are, and its specification in the safetensors header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dpt_deploy.core.decode import decode
from dpt_deploy.core.documents import parse_json
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.model.families.family import CheckpointDescription, Family, Rule
from dpt_deploy.model.families.shared import COUNTER

_SPEC = "dpt_deploy.spec"  # key of the specification in the header, as JSON


def header_of(spec: ModelSpec) -> dict[str, str]:
    """The header of a file that holds the network of ``spec``."""
    return {_SPEC: json.dumps(asdict(spec))}


def spec_in_header(checkpoint: CheckpointDescription) -> ModelSpec | None:
    """The network that a checkpoint says it holds; None where its header does not say.

    Raises:
        BadFileError: the header does not describe a network.
    """
    text = checkpoint.metadata.get(_SPEC)
    if text is None:
        return None
    try:
        spec: ModelSpec = decode(ModelSpec, parse_json(text))
    except ValueError as exc:
        raise BadFileError(
            f"{checkpoint.source}: its header does not describe a network: {exc}",
            hint="written by another version of this program, or damaged",
        ) from exc
    return spec


def adapt_to_header(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    """``spec`` with those numbers of the encoder that no tensor shows as the header has them.

    Everything else must agree, except what a recipe plants on purpose, such as a defect in the position table: a
    study's control asks for the same weights with it.

    Raises:
        BadFileError: the header describes another network; the message names the key and both values.
    """
    saved = spec_in_header(checkpoint)
    if saved is None:
        return spec
    if type(saved.encoder) is type(spec.encoder):
        hidden = {key: getattr(saved.encoder, key) for key in spec.encoder.hidden}
        spec = replace(spec, encoder=replace(spec.encoder, **hidden))
    # A network without other outputs that the saved one has.
    joint = tuple(task for task in saved.joint if task in spec.joint)
    saved = replace(saved, joint=joint, sky=saved.sky if spec.sky else None)
    free = {"name", "num_classes", *(f"encoder.{key}" for key in spec.encoder.planted)}
    wanted, found = _flat(asdict(spec)), _flat(asdict(saved))
    for key in wanted:
        if key not in free and wanted[key] != found.get(key):
            raise BadFileError(
                f"{checkpoint.source} was saved with {key} = {found.get(key)!r}; {spec.name!r} has {wanted[key]!r}",
                hint=f"it was saved as {saved.name!r}: name that network, or another checkpoint",
            )
    return spec


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _family(task: ModelTask) -> Family:
    mark = "head.classifier.{x}" if task == "segmentation" else "head.{x}"
    return Family(
        "dpt-deploy",
        task,
        marks=("encoder.{x}", "fusion.{n}.unit.{x}", mark),  # a branch has no encoder: it is no network of its own
        rules=(Rule("{x}", "{x}"),),
        unused=(COUNTER,),
        adapt=adapt_to_header,
        layout="native",
    )


FAMILIES = (_family("segmentation"), _family("depth"))
