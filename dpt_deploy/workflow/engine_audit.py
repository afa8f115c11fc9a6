"""What an open engine computes in and for how long, held to its name."""

from __future__ import annotations

from typing import Any

from dpt_deploy.core.artifact import Artifact
from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.record import AuditRecord
from dpt_deploy.core.spec import Size
from dpt_deploy.engine.audit import check_audit
from dpt_deploy.engine.inspection import audit_engine
from dpt_deploy.parity.samples import structured_images
from dpt_deploy.workflow.engine_order import engine_of
from dpt_deploy.workflow.feeds import model_feed

SILENT = "the library reports no times of layers"


def audited(artifact: Artifact, runner: Any) -> AuditRecord:
    """The audit of an engine that ``runner`` has open; by layers, with the reason, where time cannot be measured.

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
    found = audit_engine(runner.information(), seconds, shape=f"{size} batch {batch}", untimed=reason)
    check_audit(found, sidecar.precision, artifact.path.name)
    return found


def _shape(profile: Profile) -> tuple[int, Size]:
    return profile.low[0], Size(*profile.high[1:])
