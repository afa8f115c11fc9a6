"""Make the request of an engine, and find the engine that answers it already."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, open_model, sidecar_path
from dpt_deploy.core.environment import gpu_devices, tool_versions
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.profile import Profile, ProfileCost, SizeRange, check_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.engine import compat
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.engine.request import BuildRequest
from dpt_deploy.jobs.build.refit.same_graph import record_of
from dpt_deploy.jobs.common.limits import check_request

with extra("export", purpose="building an engine"):
    from dpt_deploy.graph.analysis.activations import peak_activation_bytes
    from dpt_deploy.graph.analysis.describe import describe
    from dpt_deploy.graph.analysis.opened import OpenedGraph
    from dpt_deploy.graph.analysis.operations import count_operations, operations_of_nodes


def request_engine(
    path: Path, res: tuple[SizeRange, ...], batch: int, options: EngineOptions, library: str | None
) -> BuildRequest:
    """Request an engine of the ONNX artefact at ``path``; nothing is built yet.

    Raises:
        UsageError: a size or batch that the graph cannot take, or a graph that engines cannot take.
        MissingExtraError: the library is not installed.
        BadFileError: the artefact is damaged, or is not an ONNX file.
    """
    artifact = open_model(path)
    sidecar = artifact.sidecar
    if not find_precision(sidecar.precision).for_engines:
        raise UsageError(
            f"{path.name} is quantised for ONNX Runtime's CPU; engines take no zero points",
            hint="build its twin, the file with -int8 in its name",
        )
    profiles = choose_profiles(sidecar, res, batch)
    edition = compat.load(library)
    gpus = gpu_devices()
    graph = OpenedGraph(path)
    first, size = profiles[0].high[0], Size(*profiles[0].high[1:])
    return BuildRequest(
        source=artifact,
        edition=edition,
        device=gpus[0] if gpus else None,
        profiles=profiles,
        options=options,
        costs=tuple(_cost(graph, profile) for profile in profiles),
        weight_bytes=describe(graph).weight_bytes,
        operations=operations_of_nodes(graph, size, first),
        refit=record_of(graph) if options.refittable else None,
    )


def _cost(graph: OpenedGraph, profile: Profile) -> ProfileCost:
    """Predict the cost of the largest shape of a profile."""
    batch, size = profile.high[0], Size(*profile.high[1:])
    activation_bytes = peak_activation_bytes(graph, size, batch)
    return ProfileCost(profile, activation_bytes, count_operations(graph, size, batch).total)


def choose_profiles(sidecar: Sidecar, res: tuple[SizeRange, ...], batch: int) -> tuple[Profile, ...]:
    """Choose the profiles of an engine; without ``res`` the size of training, or that of a static graph.

    Raises:
        UsageError: a size or batch that the graph cannot take.
    """
    if res:
        check_ranges(res, stride=sidecar.shapes.stride)
    else:
        size = sidecar.shapes.static_size or Size(sidecar.image.height, sidecar.image.width)
        res = (SizeRange(size, size),)
    profiles = lay_out_profiles(res, batch, static=sidecar.shapes.single)
    for profile in profiles:
        for images, height, width in (profile.low, profile.high):
            check_request(sidecar, Size(height, width), images)
    return profiles


def find_finished(target: Path, request: BuildRequest) -> Artifact | None:
    """Return the engine at ``target`` if it is whole and answers the request."""
    if not sidecar_path(target).is_file():
        return None
    try:
        artifact = open_artifact(target)
    except BadFileError:
        return None
    sidecar = artifact.sidecar
    if sidecar.engine is None or (sidecar.tools, sidecar.parents) != (tool_versions(), request.parents):
        return None
    return artifact if request.is_answered_by(sidecar.engine) else None
