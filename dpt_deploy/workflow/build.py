"""An ONNX artefact to an engine: plan profiles, look ahead, build, audit, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpt_deploy.core.artifact import (
    PLAN,
    Artifact,
    Payload,
    Sidecar,
    open_artifact,
    open_model,
    payload_of,
    sidecar_path,
)
from dpt_deploy.core.environment import available_memory, free_device_memory, gpu_devices, tool_versions
from dpt_deploy.core.errors import BadFileError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, check_folder, write_errors
from dpt_deploy.core.optional import extra
from dpt_deploy.core.profile import Profile, ProfileCost, SizeRange, check_ranges, largest_bytes
from dpt_deploy.core.record import EngineOptions, EngineRecord, Gpu
from dpt_deploy.core.spec import Size
from dpt_deploy.core.staging import commit, staged
from dpt_deploy.workflow.engine_golden import write_golden
from dpt_deploy.workflow.feeds import check_request
from dpt_deploy.workflow.same_graph import refit_record

if TYPE_CHECKING:
    from dpt_deploy.engine.compat import Edition

CPU_ONLY = "int8-cpu"
Talk = Callable[[str], None]
Advance = Callable[[str, int, int], None]

BUILD_COPIES = 3  # of the weights in host memory while an engine is built: the file, the network, the plan


@dataclass(frozen=True)
class Building:
    """A finished build: the plan, and what each profile costs. ``fresh`` is False where it lay there already."""

    artifact: Artifact
    costs: tuple[ProfileCost, ...]
    fresh: bool

    def to_dict(self) -> dict[str, Any]:
        record = engine_of(self.artifact)
        return {
            "artifact": str(self.artifact.path),
            "fresh": self.fresh,
            "library": f"{record.library} {record.version}",
            "device": str(record.device) if record.device else None,
            "seconds": record.seconds,
            "size_bytes": self.artifact.path.stat().st_size,
            "weight_bytes": record.weight_bytes,
            "profiles": [
                {
                    "profile": str(cost.profile),
                    "activation_bytes": cost.activation_bytes,
                    "operations": cost.operations,
                }
                for cost in self.costs
            ],
            "audit": record.audit.__dict__,
        }


@dataclass(frozen=True)
class _Order:
    """What is to be built, of what, with what, where: everything that tells one engine from another."""

    source: Artifact
    edition: Edition
    device: Gpu | None
    profiles: tuple[Profile, ...]
    options: EngineOptions
    costs: tuple[ProfileCost, ...] = field(compare=False)
    weight_bytes: int

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


def build_engine_artifact(
    path: Path,
    out: Path,
    *,
    res: Iterable[SizeRange] = (),
    batch: int = 1,
    options: EngineOptions | None = None,
    library: str | None = None,
    timing_cache: Path | None = None,
    force: bool = False,
    say: Talk = lambda _line: None,
    advance: Advance = lambda *_: None,
) -> Building:
    """Build an engine of the ONNX artefact at ``path`` into ``out``; return the finished artefact.

    Every size of ``res`` becomes a profile of its own for batch 1, and one for batches from 2 to ``batch``. Without
    ``res`` the size of training is taken. An engine of the same graph, profiles, options, library and GPU that stands
    there already is returned as it is, unless ``force``. It is not verified: that takes the GPU that will run it.

    Raises:
        UsageError: a size or batch that the graph cannot take, or an option that the library does not have.
        MissingExtraError: neither TensorRT nor TensorRT-RTX is installed.
        BadFileError: the artefact is damaged, or is no ONNX.
        ParityError: the graph does not compute in the precision that its name promises.
        IncompatibleError: the library cannot build the graph, or needs a GPU for it.
        ResourceError: disk or memory.
    """
    order = _order(path, tuple(res), batch, options or EngineOptions(), library)
    check_folder(out)
    target = out / path.with_suffix(".plan").name
    if not force and (done := _finished(target, order)):
        say(f"{target} is up to date (--force builds it again)")
        return Building(done, order.costs, fresh=False)
    _preflight(order, say)
    with staged(target) as folder:
        say(f"building with {order.edition} for {'; '.join(map(str, order.profiles))}")
        sidecar = _build(order, folder / target.name, timing_cache, say, advance)
        return Building(commit(target, folder, sidecar), order.costs, fresh=True)


def engine_of(artifact: Artifact) -> EngineRecord:
    """What the sidecar of a plan says of its engine."""
    if artifact.sidecar.engine is None:
        raise BadFileError(f"{artifact.path} is no engine", hint="build one: dpt-deploy build MODEL.onnx")
    return artifact.sidecar.engine


def _order(path: Path, res: tuple[SizeRange, ...], batch: int, options: EngineOptions, library: str | None) -> _Order:
    artifact = open_model(path)
    sidecar = artifact.sidecar
    if sidecar.precision == CPU_ONLY:
        raise UsageError(
            f"{path.name} is quantised for ONNX Runtime's CPU; engines take no zero points",
            hint="build its twin, the file with -int8 in its name",
        )
    with extra("export", purpose="building an engine"):
        from dpt_deploy.graph.activations import peak_activation_bytes
        from dpt_deploy.graph.describe import describe
        from dpt_deploy.graph.operations import count_operations
    from dpt_deploy.engine import compat
    from dpt_deploy.engine.profiles import costs

    profiles = plan(sidecar, res, batch)
    edition = compat.load(library)
    found = costs(
        profiles,
        lambda size, count: peak_activation_bytes(path, size, count),
        lambda size, count: count_operations(path, size, count).total,
    )
    gpus = gpu_devices()
    weights = describe(path).weight_bytes
    return _Order(artifact, edition, gpus[0] if gpus else None, profiles, options, tuple(found), weights)


def plan(sidecar: Sidecar, res: tuple[SizeRange, ...], batch: int) -> tuple[Profile, ...]:
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


def _finished(target: Path, order: _Order) -> Artifact | None:
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


def _preflight(order: _Order, say: Talk) -> None:
    """Say what is known against it, and refuse what cannot be."""
    from dpt_deploy.engine import preflight

    edition, sidecar = order.edition, order.source.sidecar
    if order.device is None and not edition.has("build without a GPU"):
        raise IncompatibleError(
            f"{edition} builds on the GPU that will run the engine, and the driver finds none",
            hint="build there, or here with TensorRT-RTX: pip install -e '.[rtx]'",
        )
    largest = max(profile.high[0] for profile in order.profiles)
    traits = preflight.traits_of(sidecar.precision, sidecar.model.task, largest, refittable=order.options.refittable)
    for line in preflight.warnings_for(edition.library, edition.module.__version__, traits):
        say(f"known to go wrong: {line}")
    needed = preflight.needed_bytes(order.weight_bytes, order.activation_bytes, order.ends_bytes)
    preflight.check_device_memory(needed, free_device_memory(), order.device)
    host = available_memory()
    if host is not None and BUILD_COPIES * order.weight_bytes > host:
        raise ResourceError(
            f"building needs about {BUILD_COPIES * order.weight_bytes / 1e9:.1f} GB of memory; {host / 1e9:.1f} GB are "
            "free",
            hint="close other programs, or build on a larger machine",
        )


def _build(order: _Order, plan: Path, timing_cache: Path | None, say: Talk, advance: Advance) -> Sidecar:
    """Build into the staging folder: the plan, and golden tensors at a size that it takes."""
    from dpt_deploy.engine.audit import AWAITS_DEVICE
    from dpt_deploy.engine.builder import BuildRequest, build_engine
    from dpt_deploy.graph.operations import operations_of_nodes

    source = order.source
    batch, height, width = order.profiles[0].high
    request = BuildRequest(
        source.path,
        source.sidecar.precision,
        order.profiles,
        order.options,
        operations_of_nodes(source.path, Size(height, width), batch),
        source.sidecar.input_kind == "uint8",
        _read_cache(order.edition, timing_cache),
    )
    built = build_engine(order.edition, request, advance)
    if order.device is None:
        say(f"audited before the build; {AWAITS_DEVICE}")
    with write_errors(plan):
        plan.write_bytes(memoryview(built.plan))
    if timing_cache is not None and built.timing_cache is not None:
        atomic_write_bytes(timing_cache, built.timing_cache)
    record = EngineRecord(
        order.edition.library,
        order.edition.module.__version__,
        order.device,
        order.profiles,
        order.options,
        order.weight_bytes,
        order.activation_bytes,
        round(built.seconds, 3),
        built.audit,
        order.ends_bytes,
        refit_record(source.path, order.options),
    )
    golden = write_golden(source, order.profiles, plan, say)
    return replace(
        source.sidecar,
        kind=PLAN,
        payloads=tuple(payload_of(entry) for entry in (plan, *((golden,) if golden else ()))),
        parents=order.parents,
        tools=tool_versions(),
        golden=golden.name if golden else "",
        parity=None,  # what was measured of the ONNX file says nothing about the engine
        engine=record,
    )


def _read_cache(edition: Edition, path: Path | None) -> bytes | None:
    """The timing cache of a former build; empty where there is none yet, None where none is asked for."""
    if path is None:
        return None
    edition.check_option("timing_cache")
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as exc:
        raise BadFileError(
            f"cannot read the timing cache {path}: {exc.strerror or exc}", hint="check the path"
        ) from exc
