"""Audit of an open engine: the precisions it computes in, and the time each takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpt_deploy.artifact.records import AuditRecord
from dpt_deploy.artifact.store import Artifact, engine_of
from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.runner import InspectableRunner
from dpt_deploy.core.size import Size
from dpt_deploy.engine.audit import check_audit
from dpt_deploy.engine.inspection import audit_engine
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.samples import structured_images

NO_TIMES = "the library reports no times of layers"
NO_TYPES = "the engine's inspector reports no types of layers; shown is the audit before the build"


def audited(artifact: Artifact, runner: InspectableRunner) -> AuditRecord:
    """Audit an engine that ``runner`` has open.

    If time cannot be measured, shares are by layers, with the reason. If the inspector reports no types, the result is
    the audit before the build, with a note.

    The time is that of the smallest batch of the first profile, at its largest size.

    Raises:
        ParityError: it does not compute in the precision of its name.
    """
    sidecar = artifact.sidecar
    batch, size = _shape(engine_of(artifact).profiles[0])
    inputs = model_inputs(sidecar, structured_images(batch, size.height, size.width))
    seconds, reason = {}, NO_TIMES
    try:
        seconds = runner.layer_seconds(inputs)
    except ResourceError as exc:  # one more context may not fit; the types can be read without it
        reason = str(exc)
    found = audit_engine(_information(runner, inputs), seconds, shape=f"{size} batch {batch}", untimed=reason)
    if not found.layers:  # the audit before the build is better than nothing
        return replace(engine_of(artifact).audit, times=None, untimed=NO_TYPES)
    check_audit(found, sidecar.precision, artifact.path.name)
    return found


def _information(runner: InspectableRunner, inputs: dict[str, np.ndarray]) -> str:
    try:
        return runner.information(inputs)
    except ResourceError:
        return runner.information()


def _shape(profile: Profile) -> tuple[int, Size]:
    return profile.low[0], Size(*profile.high[1:])
