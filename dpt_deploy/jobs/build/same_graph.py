"""Is a model of the graph that a refittable plan was built of? Asked of files, before any engine is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dpt_deploy.artifact.records import EngineOptions, RefitRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.core.optional import extra

if TYPE_CHECKING:
    from dpt_deploy.graph.analysis.opened import OpenedGraph

_SHOWN = 3


def refit_record(graph: OpenedGraph, options: EngineOptions) -> RefitRecord | None:
    """Digests of the graph for a later refit; None if the plan cannot be refitted."""
    return record_of(graph) if options.refittable else None


def record_of(graph: OpenedGraph) -> RefitRecord:
    """Digests of a graph and of its weights."""
    with extra("export", purpose="reading the graph"):
        from dpt_deploy.graph.analysis.fingerprint import fingerprint
    found = fingerprint(graph)
    return RefitRecord(found.graph, found.weights)


def check_same_graph(plan: Artifact, built: RefitRecord | None, model: Artifact) -> RefitRecord:
    """The record of ``model``, whose weights then fit the plan by name, type and shape.

    Raises:
        BadFileError: the plan's sidecar does not say what its graph was.
        IncompatibleError: it is another graph; the message says where, as far as that is on record.
    """
    if built is None:
        raise BadFileError(
            f"the sidecar of {plan.path.name} does not say what graph it was built of",
            hint=f"build it again: dpt-deploy build {model.path.name} --refit",
        )
    told = next(_outside(plan.sidecar, model.sidecar), None)
    if told is None:
        with extra("export", purpose="reading the graph"):
            from dpt_deploy.graph.analysis.opened import OpenedGraph
        found = record_of(OpenedGraph(model.path))
        if found.graph == built.graph:
            return found
        told = _inside(built, found)
    raise IncompatibleError(
        f"{model.path.name} is of another graph than {plan.path.name}, which was built of {_parent(plan)}: {told}",
        hint=f"refit with a model exported as that one was, or build: dpt-deploy build {model.path.name} --refit",
    )


def _outside(plan: Sidecar, model: Sidecar) -> Iterator[str]:
    """Differences that the sidecars tell, the plainest first."""
    for what in ("precision", "opset", "input_kind", "inputs", "shapes"):
        before, now = getattr(plan, what), getattr(model, what)
        if before != now:
            plain = isinstance(now, str | int)
            yield f"its {what.replace('_', ' ')} " + (f"is {now}, not {before}" if plain else "differ")
    if plan.model.task != model.model.task:
        yield f"its task is {model.model.task}, not {plan.model.task}"
    before, now = ([(output.tensor, output.task) for output in each.outputs] for each in (plan, model))
    if before != now:
        yield "its outputs differ"
    if moved := sorted(set(plan.islands) ^ set(model.islands)):
        yield f"other nodes stay in FP32 ({_few(moved)})"
    kept = [set(each.quantisation.kept) if each.quantisation else set() for each in (plan, model)]
    if moved := sorted(kept[0] ^ kept[1]):
        yield f"other nodes are left unquantised ({_few(moved)})"


def _inside(built: RefitRecord, found: RefitRecord) -> str:
    more, fewer = (sorted(one.keys() - other.keys()) for one, other in _both_ways(found.weights, built.weights))
    if not more + fewer:
        return "its operators, shapes or constants differ"
    told = [f"it has {_few(more)}"] if more else []
    told += [f"it has no {_few(fewer)}"] if fewer else []
    return f"{' and '.join(told)} (an export keeps equal weights once, as those of an untrained network are)"


def _both_ways(one: dict[str, str], other: dict[str, str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    yield one, other
    yield other, one


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _parent(plan: Artifact) -> str:
    return plan.sidecar.parents[0].name if plan.sidecar.parents else "a model that it does not name"
