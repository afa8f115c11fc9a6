"""Refit a deserialised engine: replace its weights, or add those that it was built without.

Experimental: not yet run on a GPU. The library's parser finds weights by the names in the ONNX file. It sets those that
the engine lists as refittable, and silently ignores all others. A weight that changed but would be ignored is therefore
an error. This concerns the scales of a quantised graph, if the library made them part of its kernels, and every weight
that the builder turned into a constant.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import DptError, IncompatibleError, ResourceError
from dpt_deploy.engine.callbacks import Messages
from dpt_deploy.engine.compat import Edition

_SHOWN = 5


@dataclass(frozen=True)
class RefitRequest:
    """The model with the new weights, and the names of those that differ from the plan's.

    ``stripped``: the plan was built without weights.
    """

    path: Path
    changed: frozenset[str]
    stripped: bool


@dataclass(frozen=True)
class Refitted:
    """The serialised engine with its new weights (any buffer), and the number of weights that it takes."""

    plan: Any
    weights: int


def refit_engine(edition: Edition, engine: Any, request: RefitRequest, messages: Messages) -> Refitted:
    """Put the weights of an ONNX file into a deserialised engine, and serialise it again.

    Raises:
        IncompatibleError: the engine cannot be refitted, does not take a weight that changed, or misses one; the
            message names them.
        ResourceError: out of memory.
    """
    trt, name = edition.module, request.path.name
    if not engine.refittable:
        raise IncompatibleError(
            f"{edition} reports that this plan cannot be refitted",
            hint=f"build one that can: dpt-deploy build {name} --refit",
        )
    refitter = trt.Refitter(engine, messages.logger)
    taken = set(refitter.get_all_weights())
    _check_takes(request, taken)
    parser = trt.OnnxParserRefitter(refitter, messages.logger)
    read = parser.refit_from_file(str(request.path))
    missing = sorted(refitter.get_missing_weights())
    if missing or not read:
        raise _not_read(parser, missing, name, messages)
    if not refitter.refit_cuda_engine():
        raise _failed(f"{edition} did not take the weights of {name}", messages)
    return Refitted(_serialise(edition, engine, messages, stripped=request.stripped), len(taken))


def _check_takes(request: RefitRequest, taken: Collection[str]) -> None:
    fixed = sorted(request.changed - set(taken))
    if fixed:
        raise IncompatibleError(
            f"{request.path.name} has other values in {_named(fixed)}, which this plan cannot take: they are part of "
            "its kernels",
            hint=f"build a plan of this model: dpt-deploy build {request.path.name} --refit",
            details=tuple(fixed),
        )


def _not_read(parser: Any, missing: list[str], name: str, messages: Messages) -> DptError:
    errors = [" ".join(parser.get_error(index).desc().split()) for index in range(parser.num_errors)]
    if missing:
        what = f"{name} does not give the plan {_named(missing)}"
    else:
        what = f"{name} does not give the plan all of its weights: {(errors[0] if errors else messages.first)[:400]}"
    return IncompatibleError(
        what,
        hint=f"give the model that the plan was built of, or build a plan of this one: dpt-deploy build {name} --refit",
        details=(*missing, *errors),
    )


def _serialise(edition: Edition, engine: Any, messages: Messages, *, stripped: bool) -> Any:
    """Serialise an engine with its weights.

    By default, a plan built without weights is serialised without them again, and is refittable no more. The first can
    be changed in every version, the second where the library has a flag for it (:data:`compat.FEATURES`).
    """
    flags, config = edition.module.SerializationFlag, engine.create_serialization_config()
    config.clear_flag(flags.EXCLUDE_WEIGHTS)
    if stripped and edition.has("lasting refit"):
        config.set_flag(flags.INCLUDE_REFIT)
    plan = engine.serialize_with_config(config)
    if plan is None:
        raise _failed(f"{edition} did not serialise the refitted engine", messages)
    return plan


def _failed(what: str, messages: Messages) -> DptError:
    if messages.out_of_memory:
        return ResourceError(f"{what}: {messages.first}", hint="free some memory, on the GPU and here")
    return IncompatibleError(f"{what}: {messages.first}", hint="build a plan of this model: dpt-deploy build")


def _named(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} weight{'s' if len(names) > 1 else ''} ({shown}{more})"
