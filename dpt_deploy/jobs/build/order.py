"""What is to be built: of which graph, with which library, for which shapes; and whether it stands there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpt_deploy.artifact.records import EngineOptions, RefitRecord
from dpt_deploy.artifact.sidecar import Payload, Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, open_model, sidecar_path
from dpt_deploy.core.environment import Gpu, gpu_devices, tool_versions
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.profile import Profile, ProfileCost, SizeRange, check_ranges, largest_bytes
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.same_graph import refit_record
from dpt_deploy.jobs.common.limits import check_request

if TYPE_CHECKING:
    from dpt_deploy.engine.compat import Edition
    from dpt_deploy.graph.analysis.opened import OpenedGraph


@dataclass(frozen=True)
class Order:
    """One engine to be built: from which model, with which library, for which GPU and profiles.

    The rest is read from the graph: ``costs`` predicts each profile, ``operations`` counts those of each node at the
    first profile's largest shape, and ``refit`` is kept for a later ``refit`` (None if the plan cannot be refitted).
    """

    source: Artifact
    edition: Edition
    device: Gpu | None
    profiles: tuple[Profile, ...]
    options: EngineOptions
    costs: tuple[ProfileCost, ...] = field(compare=False)
    weight_bytes: int
    operations: Mapping[str, int] = field(compare=False)
    refit: RefitRecord | None = field(compare=False)

    @property
    def activation_bytes(self) -> int:
        return max(cost.activation_bytes for cost in self.costs)

    @property
    def ends_bytes(self) -> int:
        sidecar = self.source.sidecar
        return sum(largest_bytes(spec, self.profiles) for spec in (*sidecar.inputs, *sidecar.outputs))

    @property
    def parents(self) -> tuple[Payload, ...]:
        sidecar = self.source.sidecar
        return tuple(payload for payload in sidecar.payloads if payload.name != sidecar.golden)


def order_of(path: Path, res: tuple[SizeRange, ...], batch: int, options: EngineOptions, library: str | None) -> Order:
    """The order of an engine for the ONNX artefact at ``path``; nothing is built yet.

    Raises:
        UsageError: a size or batch that the graph cannot take.
        MissingExtraError: the library is not installed.
        BadFileError: the artefact is damaged, or is no ONNX.
    """
    artifact = open_model(path)
    sidecar = artifact.sidecar
    if not find_precision(sidecar.precision).for_engines:
        raise UsageError(
            f"{path.name} is quantised for ONNX Runtime's CPU; engines take no zero points",
            hint="build its twin, the file with -int8 in its name",
        )
    with extra("export", purpose="building an engine"):
        from dpt_deploy.graph.analysis.describe import describe
        from dpt_deploy.graph.analysis.opened import OpenedGraph
        from dpt_deploy.graph.analysis.operations import operations_of_nodes
    from dpt_deploy.engine import compat

    profiles = choose_profiles(sidecar, res, batch)
    edition = compat.load(library)
    gpus = gpu_devices()
    graph = OpenedGraph(path)
    batch, height, width = profiles[0].high
    return Order(
        artifact,
        edition,
        gpus[0] if gpus else None,
        profiles,
        options,
        _costs(graph, profiles),
        describe(graph).weight_bytes,
        operations_of_nodes(graph, Size(height, width), batch),
        refit_record(graph, options),
    )


def widened(order: Order) -> Order:
    """The same with one profile for all sizes and batches, tuned for its largest shape as the narrow ones are."""
    from dpt_deploy.engine.profiles import wide_profile
    from dpt_deploy.graph.analysis.opened import OpenedGraph

    profiles = (wide_profile(order.profiles),)
    return replace(order, profiles=profiles, costs=_costs(OpenedGraph(order.source.path), profiles))


def _costs(graph: OpenedGraph, profiles: tuple[Profile, ...]) -> tuple[ProfileCost, ...]:
    from dpt_deploy.engine.profiles import costs
    from dpt_deploy.graph.analysis.activations import peak_activation_bytes
    from dpt_deploy.graph.analysis.operations import count_operations

    return tuple(
        costs(
            profiles,
            lambda size, count: peak_activation_bytes(graph, size, count),
            lambda size, count: count_operations(graph, size, count).total,
        )
    )


def choose_profiles(sidecar: Sidecar, res: tuple[SizeRange, ...], batch: int) -> tuple[Profile, ...]:
    """Profiles of an engine for a graph; raises :class:`UsageError` for a size or batch that it cannot take."""
    from dpt_deploy.engine.profiles import plan_profiles

    profiles = plan_profiles(_ranges(sidecar, res), batch, static=sidecar.shapes.static is not None)
    for profile in profiles:
        check_request(sidecar, Size(*profile.high[1:]), profile.high[0])
    return profiles


def _ranges(sidecar: Sidecar, res: tuple[SizeRange, ...]) -> tuple[SizeRange, ...]:
    static = sidecar.shapes.static_size
    if not res:
        size = static or Size(sidecar.image.height, sidecar.image.width)
        return (SizeRange(size, size),)
    check_ranges(res, stride=sidecar.shapes.stride)
    return res


def finished(target: Path, order: Order) -> Artifact | None:
    """The engine at ``target`` if it is whole and answers this very order."""
    if not sidecar_path(target).is_file():
        return None
    try:
        artifact = open_artifact(target)
    except BadFileError:
        return None
    have = artifact.sidecar.engine
    if have is None or artifact.sidecar.tools != tool_versions():
        return None
    if order.options.refittable and have.refit is None:  # of an earlier version, which kept no record for refitting
        return None
    device = have.device and (have.device.name, have.device.capability)
    wanted = order.device and (order.device.name, order.device.capability)
    same = (have.library, have.version, have.profiles, have.options, device) == (
        order.edition.library,
        order.edition.module.__version__,
        order.profiles,
        order.options,
        wanted,
    )
    return artifact if same and artifact.sidecar.parents == order.parents else None
