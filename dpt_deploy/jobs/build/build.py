"""An ONNX artefact to an engine: plan profiles, look ahead, build, audit, commit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpt_deploy.artifact.records import EngineOptions, EngineRecord
from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import Artifact, engine_of, payload_of
from dpt_deploy.core.environment import available_memory, free_device_memory, tool_versions
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, check_folder, write_errors
from dpt_deploy.core.profile import ProfileCost, SizeRange
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.build.golden import write_golden
from dpt_deploy.jobs.build.order import Order, finished, order_of, widened
from dpt_deploy.jobs.build.profile_times import with_times

if TYPE_CHECKING:
    from dpt_deploy.engine.compat import Edition


BUILD_COPIES = 3  # of the weights in host memory while an engine is built: the file, the network, the plan


@dataclass(frozen=True)
class Building:
    """A finished build: the plan, and what each profile is predicted to cost. ``fresh`` is False where it lay there
    already. What profiles were measured to cost stands in the sidecar; ``failed`` is what kept one from being."""

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
    path: Path,
    out: Path,
    *,
    res: Iterable[SizeRange] = (),
    batch: int = 1,
    options: EngineOptions | None = None,
    library: str | None = None,
    timing_cache: Path | None = None,
    force: bool = False,
    measure: bool | None = None,
    against_wide: bool = False,
) -> Building:
    """Build an engine of the ONNX artefact at ``path`` into ``out``; return the finished artefact.

    Every size of ``res`` becomes a profile of its own for batch 1, and one for batches from 2 to ``batch``. Without
    ``res`` the size of training is taken. An engine of the same graph, profiles, options, library and GPU that stands
    there already is returned as it is, unless ``force``. It is not verified: that takes the GPU that will run it.

    Where a GPU is, what each profile costs is then measured and kept in the sidecar (``measure`` False: not; True: no
    GPU is an error); ``against_wide`` builds a second engine, with one profile for all shapes, and times the two turn
    by turn. A measurement that fails is said, leaves the engine as it is, and stands in what is returned.

    Raises:
        UsageError: a size or batch that the graph cannot take, or an option that the library does not have; or nothing
            narrower than the wide profile.
        MissingExtraError: neither TensorRT nor TensorRT-RTX is installed.
        BadFileError: the artefact is damaged, or is no ONNX.
        ParityError: the graph does not compute in the precision that its name promises.
        IncompatibleError: the library cannot build the graph, or needs a GPU for it; or there is none to measure on.
        ResourceError: disk or memory.
    """
    order = order_of(path, tuple(res), batch, options or EngineOptions(), library)
    _check_wish(order, measure, against_wide=against_wide)
    check_folder(out)
    target = out / path.with_suffix(".plan").name
    done = None if force else finished(target, order)
    if done is not None:
        say(f"{target} is up to date (--force builds it again)")
    found = done or _built(order, target, timing_cache)
    failed = None
    if measure is not False and not order.options.strip_weights:  # what has no weights does not run
        wide = partial(_wide, order, out, timing_cache) if against_wide else None
        found, failed = with_times(found, order.device, wide)
    return Building(found, order.costs, fresh=done is None, failed=failed)


def _check_wish(order: Order, measure: bool | None, *, against_wide: bool) -> None:
    """Raise before anything is built where a measurement is asked for by name and cannot be."""
    if against_wide and measure is False:
        raise UsageError("a wide engine is built to be measured", hint="leave --no-measure or --against-wide out")
    if against_wide and len(order.profiles) == 1:
        raise UsageError(
            f"the engine has one profile, {order.profiles[0]}: a wide one would be the same",
            hint="leave --against-wide out, or give more sizes (--res) or a larger --batch",
        )
    if (measure or against_wide) and order.options.strip_weights:
        raise UsageError(
            "an engine without its weights cannot be run, and so not measured",
            hint="leave --measure and --against-wide out, or --strip-weights",
        )
    if (measure or against_wide) and order.device is None:
        raise IncompatibleError(
            "profiles are measured on an NVIDIA GPU; the driver finds none",
            hint=f"leave {'--against-wide' if against_wide else '--measure'} out: costs are predicted without one",
        )


def _built(order: Order, target: Path, timing_cache: Path | None, *, golden: bool = True) -> Artifact:
    _preflight(order)
    with staged(target) as folder:
        say(f"building with {order.edition} for {'; '.join(map(str, order.profiles))}")
        sidecar = _build(order, folder / target.name, timing_cache, golden=golden)
        return commit(target, folder, sidecar)


@contextmanager
def _wide(order: Order, out: Path, timing_cache: Path | None) -> Iterator[Artifact]:
    """The engine with one profile for everything, in scratch beside the other."""
    with write_errors(out):
        scratch = tempfile.TemporaryDirectory(prefix=".dpt-deploy-", dir=out)
    with scratch as folder:
        yield _built(widened(order), Path(folder) / "wide.plan", timing_cache, golden=False)


def _preflight(order: Order) -> None:
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


def _build(order: Order, plan: Path, timing_cache: Path | None, *, golden: bool) -> Sidecar:
    """Build into the staging folder: the plan, and golden tensors at a size that it takes."""
    from dpt_deploy.engine.audit import AWAITS_DEVICE
    from dpt_deploy.engine.builder import BuildRequest, build_engine

    source = order.source
    request = BuildRequest(
        source.path,
        source.sidecar.precision,
        order.profiles,
        order.options,
        order.operations,
        source.sidecar.input_kind == "uint8",
        _read_cache(order.edition, timing_cache),
    )
    built = build_engine(order.edition, request)
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
        order.refit,
    )
    tensors = write_golden(source, order.profiles, plan) if golden else None
    return replace(
        source.sidecar,
        kind=PLAN,
        payloads=tuple(payload_of(entry) for entry in (plan, *((tensors,) if tensors else ()))),
        parents=order.parents,
        tools=tool_versions(),
        golden=tensors.name if tensors else "",
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
