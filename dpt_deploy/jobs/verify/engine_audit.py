"""What an open engine computes in and for how long, held to its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dpt_deploy.artifact.records import AuditRecord
from dpt_deploy.artifact.store import Artifact, engine_of
from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.size import Size
from dpt_deploy.engine.audit import check_audit
from dpt_deploy.engine.inspection import audit_engine
from dpt_deploy.jobs.common.inputs import model_feed
from dpt_deploy.jobs.common.samples import structured_images

SILENT = "the library reports no times of layers"
UNTOLD = "the engine's inspector tells no types of its layers; what is shown was told before the build"


def audited(artifact: Artifact, runner: Any) -> AuditRecord:
    """The audit of an engine that ``runner`` has open; by layers, with the reason, where time cannot be measured.
    Where the inspector tells no types at all, it is the audit before the build, and says so.

    The time is that of the smallest batch of the first profile, at its largest size.

    Raises:
        ParityError: it does not compute in the precision of its name.
    """
    sidecar = artifact.sidecar
    batch, size = _shape(engine_of(artifact).profiles[0])
    feed = model_feed(sidecar, structured_images(batch, size.height, size.width))
    seconds, reason = {}, SILENT
    try:
        seconds = runner.layer_seconds(feed)
    except ResourceError as exc:  # one more context may not fit; what it computes in can be told without
        reason = str(exc)
    found = audit_engine(_information(runner, feed), seconds, shape=f"{size} batch {batch}", untimed=reason)
    if not found.layers:  # what was told of the network before the build is more than nothing
        return replace(engine_of(artifact).audit, times=None, untimed=UNTOLD)
    check_audit(found, sidecar.precision, artifact.path.name)
    return found


def _information(runner: Any, feed: dict[str, np.ndarray]) -> str:
    try:
        return str(runner.information(feed))
    except ResourceError:
        return str(runner.information())


def _shape(profile: Profile) -> tuple[int, Size]:
    return profile.low[0], Size(*profile.high[1:])
