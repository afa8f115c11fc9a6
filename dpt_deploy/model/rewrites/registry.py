"""Table of the rewrites that a network can go through before export.

An *exact* rewrite computes the same function in fewer operations. Every export applies all of them.

An *approximate* rewrite computes another function on purpose, because that is faster. An export applies one only on
request (``--approximate NAME=VALUE,…``), records it in the sidecar, and measures what it costs. The PyTorch reference
of such an artefact is the approximated network; the accuracy record compares it with the exact one.

To add a rewrite, write a module in this folder and add a record to :data:`REWRITES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.rewrites.exact import deployable
from dpt_deploy.model.rewrites.merging import check_merge, merge_tokens
from dpt_deploy.model.rewrites.tokens import check_clusters, cluster_tokens, cluster_tokens_softly


def _fits(_spec: ModelSpec, _size: Size, **_numbers: float) -> None:
    """Accept every network."""


@dataclass(frozen=True)
class Rewrite:
    """A change of a built network.

    ``apply`` takes the network, and for an approximate rewrite the keyword arguments named by ``parameters``, which are
    numbers. It returns a copy that may share tensors with the original, and never changes the original. ``check`` takes
    a network's specification, the size of its images, and the numbers, and raises :class:`UsageError` if they do not
    fit together.
    """

    name: str
    exact: bool
    apply: Callable[..., DPT]
    parameters: tuple[str, ...] = ()
    check: Callable[..., None] = _fits


_CLUSTERS = ("layer", "height", "width")

REWRITES = {
    each.name: each
    for each in (
        Rewrite("fewer-operations", exact=True, apply=deployable),
        Rewrite("tokens-hard", False, cluster_tokens, _CLUSTERS, check_clusters),
        Rewrite("tokens-knn", False, cluster_tokens_softly, _CLUSTERS, check_clusters),
        Rewrite("tokens-merge", False, merge_tokens, ("layer", "percent"), check_merge),
    )
}


def exactly_rewritten(model: DPT) -> DPT:
    """Apply every exact rewrite to a copy of ``model``, in the order of the table."""
    for rewrite in [each for each in REWRITES.values() if each.exact]:
        model = rewrite.apply(model)
    return model


def approximated(model: DPT, name: str, parameters: Mapping[str, float]) -> DPT:
    """Apply the approximate rewrite ``name`` to a copy of ``model``.

    Raises:
        UsageError: no such approximate rewrite, or other parameters than it takes.
    """
    rewrite = find_approximation(name)
    if set(parameters) != set(rewrite.parameters):
        raise UsageError(
            f"approximation {name!r} has the parameters {', '.join(sorted(parameters)) or 'none'}; "
            f"expected {', '.join(rewrite.parameters)}",
            hint="it was recorded by another version; export the model again",
        )
    return rewrite.apply(model, **parameters)


def find_approximation(name: str) -> Rewrite:
    """Return the approximate rewrite called ``name``.

    Raises:
        UsageError: there is none.
    """
    known = sorted(each.name for each in REWRITES.values() if not each.exact)
    if name not in known:
        raise UsageError(
            f"unknown approximation {name!r}",
            hint=f"known: {', '.join(known)}",
        )
    return REWRITES[name]
