"""Build an engine from an ONNX artefact: lay out profiles, check the machine, build, audit, commit, measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dpt_deploy.artifact import defects
from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.staging import commit, settle, staged
from dpt_deploy.artifact.store import Artifact, engine_of, payload_of
from dpt_deploy.core.environment import available_memory, free_device_memory, tool_versions
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, check_folder, write_errors
from dpt_deploy.core.profile import ProfileCost, SizeRange
from dpt_deploy.core.progress import say
from dpt_deploy.engine import preflight
from dpt_deploy.engine.audit import AWAITS_DEVICE
from dpt_deploy.engine.builder import build_engine
from dpt_deploy.engine.compat import Edition
from dpt_deploy.engine.request import BuildRequest
from dpt_deploy.jobs.build.golden import write_golden
from dpt_deploy.jobs.build.profile_times import with_times
from dpt_deploy.jobs.build.request import find_finished, request_engine

BUILD_COPIES = 3  # of the weights in host memory while an engine is built: the file, the network, the plan


@dataclass(frozen=True)
class BuildResult:
    """A finished build: the plan, and the predicted cost of each profile.

    ``fresh`` is False if the plan was there already. Measured times are in the sidecar; ``failed`` is the error that
    prevented a measurement.
    """

    artifact: Artifact
    costs: tuple[ProfileCost, ...]
    fresh: bool
    failed: DptError | None = None

    def to_dict(self) -> dict[str, Any]:
        record = engine_of(self.artifact)
        measured = {time.profile: time.to_dict() for time in record.profile_times}
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
                    "measured": measured.get(cost.profile),
                }
                for cost in self.costs
            ],
            "measured_on": str(record.measured_on) if record.measured_on else None,
            "not_measured": str(self.failed) if self.failed else None,
            "audit": asdict(record.audit),
        }


def build_engine_artifact(
    path: Path | str,
    out: Path | str,
    *,
    res: Iterable[SizeRange] = (),
    batch: int = 1,
    options: EngineOptions | None = None,
    library: str | None = None,
    timing_cache: Path | str | None = None,
    force: bool = False,
    measure: bool | None = None,
) -> BuildResult:
    """Build an engine from the ONNX artefact at ``path`` into the folder ``out``.

    Every size of ``res`` gets a profile for batch 1, and one for batches from 2 to ``batch``. Without ``res`` the size
    of training is taken. If ``out`` holds an engine of the same graph, profiles, options, library and GPU, that one is
    returned, unless ``force``. The engine is not verified: that takes the GPU that will run it.

    If there is a GPU, each profile is then measured and its times are recorded in the sidecar. ``measure`` False skips
    this; True makes a missing GPU an error. A measurement that fails is reported, and leaves the engine as it is.

    Raises:
        UsageError: a size or batch that the graph cannot take, or an option that the library does not have.
        MissingExtraError: neither TensorRT nor TensorRT-RTX is installed.
        BadFileError: the artefact is damaged, or is not an ONNX file.
        ParityError: the graph does not compute in the precision that its name promises.
        IncompatibleError: the library cannot build the graph, or needs a GPU for it; or there is none to measure on.
        ResourceError: disk or memory.
    """
    path, out = Path(path), Path(out)
    timing_cache = None if timing_cache is None else Path(timing_cache)
    request = request_engine(path, tuple(res), batch, options or EngineOptions(), library)
    if measure:
        _check_measurable(request)
    check_folder(out)
    target = out / path.with_suffix(".plan").name
    settle(target)
    done = None if force else find_finished(target, request)
    if done is not None:
        say(f"{target} is up to date (--force builds it again)")
    found, failed = done or _build(request, target, timing_cache), None
    if measure is not False and not request.options.strip_weights:  # without weights an engine does not run
        found, failed = with_times(found, request.device)
    return BuildResult(found, request.costs, fresh=done is None, failed=failed)


def _check_measurable(request: BuildRequest) -> None:
    if request.options.strip_weights:
        raise UsageError(
            "an engine without its weights cannot run, so its profiles cannot be measured",
            hint="leave out --measure or --strip-weights",
        )
    if request.device is None:
        raise IncompatibleError(
            "profiles are measured on an NVIDIA GPU; the driver finds none",
            hint="leave --measure out: costs are predicted without one",
        )


def _build(request: BuildRequest, target: Path, timing_cache: Path | None) -> Artifact:
    _check_machine(request)
    with staged(target) as folder:
        say(f"building with {request.edition} for {'; '.join(map(str, request.profiles))}")
        return commit(target, folder, _write(request, folder / target.name, timing_cache))


def _check_machine(request: BuildRequest) -> None:
    """Warn of known defects; raise if the machine lacks what the build needs."""
    edition, sidecar = request.edition, request.source.sidecar
    if request.device is None and not edition.has("build without a GPU"):
        raise IncompatibleError(
            f"{edition} builds on the GPU that will run the engine, and the driver finds none",
            hint="build there, or here with TensorRT-RTX: pip install -e '.[rtx]'",
        )
    largest = max(profile.high[0] for profile in request.profiles)
    refittable = request.options.refittable
    traits = preflight.traits_of(sidecar.precision, sidecar.model.task, largest, refittable=refittable)
    for line in defects.warnings_for(edition.library, edition.module.__version__, traits):
        say(f"known defect: {line}")
    needed = preflight.needed_bytes(request.weight_bytes, request.activation_bytes, request.ends_bytes)
    preflight.check_device_memory(needed, free_device_memory(), request.device)
    host, needed = available_memory(), BUILD_COPIES * request.weight_bytes
    if host is not None and needed > host:
        raise ResourceError(
            f"building needs about {needed / 1e9:.1f} GB of memory; {host / 1e9:.1f} GB are free",
            hint="close other programs, or build on a larger machine",
        )


def _write(request: BuildRequest, plan: Path, timing_cache: Path | None) -> Sidecar:
    """Write the plan and its golden tensors into the staging folder; return the sidecar."""
    built = build_engine(request, _read_cache(request.edition, timing_cache))
    if request.device is None:
        say(f"audited before the build; {AWAITS_DEVICE}")
    with write_errors(plan):
        plan.write_bytes(memoryview(built.plan))
    if timing_cache is not None and built.timing_cache is not None:
        atomic_write_bytes(timing_cache, built.timing_cache)
    golden = write_golden(request.source, request.profiles, plan)
    return replace(
        request.source.sidecar,
        kind=PLAN,
        payloads=tuple(payload_of(entry) for entry in (plan, *((golden,) if golden else ()))),
        parents=request.parents,
        tools=tool_versions(),
        golden=golden.name if golden else "",
        parity=None,  # measured on the ONNX file; says nothing about the engine
        engine=built.record,
    )


def _read_cache(edition: Edition, path: Path | None) -> bytes | None:
    """Read the timing cache of an earlier build: empty if there is none yet, None if no cache is wanted."""
    if path is None:
        return None
    edition.check_option("timing_cache")
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as exc:
        raise BadFileError(
            f"cannot read the timing cache {path}: {exc.strerror or exc}", hint="check the path"
        ) from exc
