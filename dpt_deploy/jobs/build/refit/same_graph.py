"""Check that a model has the graph that a refittable plan was built from, before any engine is loaded.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator

from dpt_deploy.artifact.records import RefitRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.core.optional import extra

with extra("export", purpose="reading the graph"):
    from dpt_deploy.graph.analysis.fingerprint import fingerprint
    from dpt_deploy.graph.analysis.opened import OpenedGraph

_SHOWN = 3


def record_of(graph: OpenedGraph) -> RefitRecord:
    """Digests of a graph and of its weights."""
    found = fingerprint(graph)
    return RefitRecord(found.graph, found.weights)


def check_same_graph(plan: Artifact, built: RefitRecord | None, model: Artifact) -> RefitRecord:
    """Compare the graphs of a model and a plan; return the model's record.

    The weights of the same graph fit the plan by name, type and shape.

    Raises:
        BadFileError: the plan's sidecar does not record its graph.
        IncompatibleError: the graphs differ; the message says where, as far as that is on record.
    """
    if built is None:
        raise BadFileError(
            f"the sidecar of {plan.path.name} does not record the graph it was built from",
            hint=f"build it again: dpt-deploy build {model.path.name} --refit",
        )
    difference = next(_outside(plan.sidecar, model.sidecar), None)
    if difference is None:
        found = record_of(OpenedGraph(model.path))
        if found.graph == built.graph:
            return found
        difference = _inside(built, found)
    name = model.path.name
    raise IncompatibleError(
        f"{name} has another graph than {plan.path.name}, which was built from {_parent(plan)}: {difference}",
        hint=f"refit with a model that was exported in the same way, or build: dpt-deploy build {name} --refit",
    )


def _outside(plan: Sidecar, model: Sidecar) -> Iterator[str]:
    """Yield the differences between the sidecars, the plainest first."""
    for name in ("precision", "opset", "input_kind", "inputs", "shapes"):
        before, now = getattr(plan, name), getattr(model, name)
        if before != now:
            plain = isinstance(now, str | int)
            yield f"its {name.replace('_', ' ')} " + (f"is {now}, not {before}" if plain else "differ")
    if plan.model.task != model.model.task:
        yield f"its task is {model.model.task}, not {plan.model.task}"
    before, now = ([(output.tensor, output.task) for output in each.outputs] for each in (plan, model))
    if before != now:
        yield "its outputs differ"
    made, given = _approximation(plan), _approximation(model)
    if made != given:
        yield f"its approximation is {given}, not {made}"
    if moved := sorted(set(plan.islands) ^ set(model.islands)):
        yield f"other nodes stay in FP32 ({_few(moved)})"
    kept = [set(each.quantisation.kept) if each.quantisation else set() for each in (plan, model)]
    if moved := sorted(kept[0] ^ kept[1]):
        yield f"other nodes are left unquantised ({_few(moved)})"


def _approximation(sidecar: Sidecar) -> str:
    record = sidecar.approximation
    return f"{record.name} {record.parameters}" if record else "none"


def _inside(built: RefitRecord, found: RefitRecord) -> str:
    more, fewer = (sorted(one.keys() - other.keys()) for one, other in _both_ways(found.weights, built.weights))
    if not more + fewer:
        return "its operators, shapes or constants differ"
    parts = [f"it has {_few(more)}"] if more else []
    parts += [f"it has no {_few(fewer)}"] if fewer else []
    return f"{' and '.join(parts)} (an export keeps equal weights once, as those of an untrained network are)"


def _both_ways(one: dict[str, str], other: dict[str, str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    yield one, other
    yield other, one


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _parent(plan: Artifact) -> str:
    return plan.sidecar.parents[0].name if plan.sidecar.parents else "a model that is not on record"
