"""The weights of a model into a plan, on the GPU that will run it: compare, look ahead, refit, load again, commit."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpt_deploy.artifact.records import EngineRecord, RefitRecord
from dpt_deploy.artifact.sidecar import PLAN, Payload, Sidecar
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import Artifact, engine_of, open_artifact, open_model, payload_of
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.files import check_folder, write_errors
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.build.golden import write_golden
from dpt_deploy.jobs.build.same_graph import check_same_graph
from dpt_deploy.jobs.common.targets import check_machine_for

if TYPE_CHECKING:
    from dpt_deploy.engine.compat import Edition, Messages

NOT_SINCE = "the engine has got other weights since"


@dataclass(frozen=True)
class Refitting:
    """A plan with its new weights: how many it can take, and how many differ from those that it was built with."""

    artifact: Artifact
    source: Path
    weights: int
    changed: int
    seconds: float

    @property
    def refittable(self) -> bool:
        """Whether the new plan can be refitted in its turn."""
        return engine_of(self.artifact).options.refit

    def to_dict(self) -> dict[str, Any]:
        record = engine_of(self.artifact)
        return {
            "artifact": str(self.artifact.path),
            "plan": str(self.source),
            "model": [payload.name for payload in self.artifact.sidecar.parents],
            "library": f"{record.library} {record.version}",
            "weights": self.weights,
            "changed": self.changed,
            "refittable": self.refittable,
            "seconds": self.seconds,
            "size_bytes": self.artifact.path.stat().st_size,
        }


@dataclass(frozen=True)
class _Order:
    """What goes into what: both of the same graph, on a machine that can run it."""

    plan: Artifact
    model: Artifact
    record: EngineRecord
    before: RefitRecord
    after: RefitRecord

    @property
    def changed(self) -> frozenset[str]:
        before = self.before.weights
        return frozenset(name for name, digest in self.after.weights.items() if before.get(name) != digest)


def refit_engine_artifact(plan: Path, model: Path, out: Path | None = None) -> Refitting:
    """Put the weights of the ONNX artefact ``model`` into the refittable or stripped ``plan``; a new, finished plan.

    It is ``MODEL-refitted.plan``, beside the plan or in the folder ``out``; ``plan`` stays as it is, unless it has that
    very name and folder, and is then replaced as a whole. The new one is not verified, whatever the old one was.

    Raises:
        UsageError: ``out`` is no folder.
        MissingExtraError: the library that built the plan, cuda-python or onnx is not installed.
        BadFileError: one of them is damaged or is of another kind.
        IncompatibleError: the plan was not built to be refitted, the model is of another graph or changes what the
            plan cannot be given, or this machine cannot run the plan.
        ResourceError: disk or memory.
    """
    order = _order(plan, model)
    folder = plan.parent if out is None else out
    check_folder(folder)
    for line in check_machine_for(order.record):
        say(line)
    _warn(order)
    target = folder / f"{model.stem}-refitted.plan"
    with staged(target) as stage:
        say(f"putting the weights of {model.name} into {plan.name}")
        begun = time.monotonic()
        weights, sidecar = _refit(order, stage / target.name)
        took = round(time.monotonic() - begun, 3)
        return Refitting(commit(target, stage, sidecar), plan, weights, len(order.changed), took)


def _order(plan: Path, model: Path) -> _Order:
    source = open_artifact(plan)
    record = engine_of(source)
    given = open_model(model)
    if not record.options.refittable:
        raise IncompatibleError(
            f"{plan.name} was not built to be refitted: its weights are part of it for good",
            hint=f"build one that can: dpt-deploy build {model.name} --refit, on the GPU that will run it",
        )
    found = check_same_graph(source, record.refit, given)
    return _Order(source, given, record, record.refit or found, found)


def _warn(order: _Order) -> None:
    from dpt_deploy.engine import preflight

    record, sidecar = order.record, order.model.sidecar
    largest = max(profile.high[0] for profile in record.profiles)
    traits = preflight.traits_of(sidecar.precision, sidecar.model.task, largest, refittable=True)
    for line in preflight.warnings_for(record.library, record.version, traits):
        say(f"known to go wrong: {line}")


def _refit(order: _Order, plan: Path) -> tuple[int, Sidecar]:
    """Write plan and golden tensors into the staging folder; how many weights it took, and its sidecar."""
    from dpt_deploy.engine import compat

    edition = compat.load(order.record.library)
    with compat.Messages(edition) as messages:
        weights = _write_plan(edition, order, plan, messages)
        lasting = _can_be_refitted(edition, plan, messages, host_code=order.record.options.version_compatible)
    source = order.model
    golden = write_golden(source, order.record.profiles, plan)
    record = replace(
        order.record,
        options=replace(order.record.options, strip_weights=False, refit=lasting),
        refit=order.after if lasting else None,
        audit=replace(order.record.audit, times=None, untimed=NOT_SINCE),
        profile_times=(),
        measured_on=None,
    )
    sidecar = replace(
        source.sidecar,
        kind=PLAN,
        payloads=tuple(payload_of(entry) for entry in (plan, *((golden,) if golden else ()))),
        parents=_without_golden(source.sidecar),
        tools=tool_versions(),
        golden=golden.name if golden else "",
        parity=None,  # what was measured of other weights, or of the ONNX file, says nothing about this engine
        engine=record,
    )
    return weights, sidecar


def _write_plan(edition: Edition, order: _Order, plan: Path, messages: Messages) -> int:
    """Refit in a scope of its own: the engine leaves the GPU before the new plan is loaded."""
    from dpt_deploy.engine.refit import RefitRequest, refit_engine
    from dpt_deploy.runtime.registry import load_plan

    host_code = order.record.options.version_compatible
    _runtime, engine = load_plan(order.plan.path, edition.module, messages.logger, host_code=host_code)
    request = RefitRequest(order.model.path, order.changed, order.record.options.strip_weights)
    refitted = refit_engine(edition, engine, request, messages)
    with write_errors(plan):
        plan.write_bytes(memoryview(refitted.plan))
    return refitted.weights


def _can_be_refitted(edition: Edition, plan: Path, messages: Messages, *, host_code: bool) -> bool:
    """Load what was written, so that nothing is committed that does not load, and ask it what it still can."""
    from dpt_deploy.runtime.registry import load_plan

    _runtime, engine = load_plan(plan, edition.module, messages.logger, host_code=host_code)
    return bool(engine.refittable)


def _without_golden(sidecar: Sidecar) -> tuple[Payload, ...]:
    return tuple(payload for payload in sidecar.payloads if payload.name != sidecar.golden)
