"""Refit a plan on the GPU that will run it: compare the graphs, check the machine, refit, load again, commit.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpt_deploy.artifact import defects
from dpt_deploy.artifact.records import EngineRecord, RefitRecord
from dpt_deploy.artifact.sidecar import PLAN, Payload, Sidecar
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import Artifact, engine_of, open_artifact, open_model, payload_of
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.files import check_folder, write_errors
from dpt_deploy.core.progress import say
from dpt_deploy.engine import compat, preflight
from dpt_deploy.engine.callbacks import Messages
from dpt_deploy.engine.compat import Edition
from dpt_deploy.jobs.build.golden import write_golden
from dpt_deploy.jobs.build.refit.refitter import RefitRequest, refit_engine
from dpt_deploy.jobs.build.refit.same_graph import check_same_graph
from dpt_deploy.jobs.common.targets import check_machine_for
from dpt_deploy.runtime.registry import load_plan

NOT_SINCE = "the weights of the engine were replaced since"


@dataclass(frozen=True)
class RefitResult:
    """A plan with its new weights: how many it takes, and how many of them differ from those it was built with."""

    artifact: Artifact
    source: Path
    weights: int
    changed: int
    seconds: float

    @property
    def refittable(self) -> bool:
        """True if the new plan can be refitted again."""
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
class _Pair:
    """A plan, and a model of the same graph whose weights it gets."""

    plan: Artifact
    model: Artifact
    record: EngineRecord
    before: RefitRecord
    after: RefitRecord

    @property
    def changed(self) -> frozenset[str]:
        before = self.before.weights
        return frozenset(name for name, digest in self.after.weights.items() if before.get(name) != digest)


def refit_engine_artifact(plan: Path | str, model: Path | str, out: Path | str | None = None) -> RefitResult:
    """Put the weights of the ONNX artefact ``model`` into the refittable or stripped ``plan``; write a new plan.

    The new plan is ``MODEL-refitted.plan``, next to ``plan`` or in the folder ``out``. A plan with that very path is
    replaced atomically; any other stays. The new plan is not verified, even if the old one was.

    Raises:
        UsageError: ``out`` is not a folder.
        MissingExtraError: the library that built the plan, cuda-python or onnx is not installed.
        BadFileError: one of them is damaged or is of another kind.
        IncompatibleError: the plan was not built to be refitted, the model has another graph or changes what the
            plan cannot take, or this machine cannot run the plan.
        ResourceError: disk or memory.
    """
    plan, model = Path(plan), Path(model)
    out = None if out is None else Path(out)
    pair = _pair(plan, model)
    folder = plan.parent if out is None else out
    check_folder(folder)
    for line in check_machine_for(pair.record):
        say(line)
    _warn(pair)
    target = folder / f"{model.stem}-refitted.plan"
    with staged(target) as stage:
        say(f"putting the weights of {model.name} into {plan.name}")
        begun = time.monotonic()
        weights, sidecar = _refit(pair, stage / target.name)
        took = round(time.monotonic() - begun, 3)
        return RefitResult(commit(target, stage, sidecar), plan, weights, len(pair.changed), took)


def _pair(plan: Path, model: Path) -> _Pair:
    source = open_artifact(plan)
    record = engine_of(source)
    given = open_model(model)
    if not record.options.refittable:
        raise IncompatibleError(
            f"{plan.name} was not built to be refitted: its weights cannot be replaced",
            hint=f"build one that can: dpt-deploy build {model.name} --refit, on the GPU that will run it",
        )
    found = check_same_graph(source, record.refit, given)
    return _Pair(source, given, record, record.refit or found, found)


def _warn(pair: _Pair) -> None:
    record, sidecar = pair.record, pair.model.sidecar
    largest = max(profile.high[0] for profile in record.profiles)
    traits = preflight.traits_of(sidecar.precision, sidecar.model.task, largest, refittable=True)
    for line in defects.warnings_for(record.library, record.version, traits):
        say(f"known defect: {line}")


def _refit(pair: _Pair, plan: Path) -> tuple[int, Sidecar]:
    """Write plan and golden tensors into the staging folder; return the number of weights it takes, and the sidecar."""
    edition = compat.load(pair.record.library)
    with Messages(edition) as messages:
        weights = _write_plan(edition, pair, plan, messages)
        lasting = _can_be_refitted(edition, plan, messages, host_code=pair.record.options.version_compatible)
    source = pair.model
    golden = write_golden(source, pair.record.profiles, plan)
    record = replace(
        pair.record,
        options=replace(pair.record.options, strip_weights=False, refit=lasting),
        refit=pair.after if lasting else None,
        audit=replace(pair.record.audit, times=None, untimed=NOT_SINCE),
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
        parity=None,  # measured with other weights, or on the ONNX file; says nothing about this engine
        engine=record,
    )
    return weights, sidecar


def _write_plan(edition: Edition, pair: _Pair, plan: Path, messages: Messages) -> int:
    """Write the refitted plan; the engine leaves the GPU when this returns, before the new plan is loaded."""
    host_code = pair.record.options.version_compatible
    _runtime, engine = load_plan(pair.plan.path, edition.module, messages.logger, host_code=host_code)
    request = RefitRequest(pair.model.path, pair.changed, pair.record.options.strip_weights)
    refitted = refit_engine(edition, engine, request, messages)
    with write_errors(plan):
        plan.write_bytes(memoryview(refitted.plan))
    return refitted.weights


def _can_be_refitted(edition: Edition, plan: Path, messages: Messages, *, host_code: bool) -> bool:
    """Load the written plan, so that nothing is committed that does not load; True if it can be refitted again."""
    _runtime, engine = load_plan(plan, edition.module, messages.logger, host_code=host_code)
    return bool(engine.refittable)


def _without_golden(sidecar: Sidecar) -> tuple[Payload, ...]:
    return tuple(payload for payload in sidecar.payloads if payload.name != sidecar.golden)
