"""The request of one engine: everything that the builder needs, and that the sidecar of the plan records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord, RefitRecord
from dpt_deploy.artifact.sidecar import Payload
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import Profile, ProfileCost, largest_bytes
from dpt_deploy.engine.compat import Edition


@dataclass(frozen=True)
class BuildRequest:
    """Request of one engine: its model, library, GPU (None: built without one) and profiles.

    The rest is read from the graph. ``costs`` predicts each profile, ``operations`` counts those of each node at the
    first profile's largest shape, and ``refit`` is kept for a later refit (None if the plan cannot be refitted).
    """

    source: Artifact
    edition: Edition
    device: Gpu | None
    profiles: tuple[Profile, ...]
    options: EngineOptions
    costs: tuple[ProfileCost, ...]
    weight_bytes: int
    operations: Mapping[str, int]
    refit: RefitRecord | None = None

    @property
    def activation_bytes(self) -> int:
        """Predicted memory of the activations at the largest profile."""
        return max(cost.activation_bytes for cost in self.costs)

    @property
    def ends_bytes(self) -> int:
        """Memory of the largest input and output."""
        sidecar = self.source.sidecar
        return sum(largest_bytes(spec, self.profiles) for spec in (*sidecar.inputs, *sidecar.outputs))

    @property
    def parents(self) -> tuple[Payload, ...]:
        """The files that the engine is built from."""
        sidecar = self.source.sidecar
        return tuple(payload for payload in sidecar.payloads if payload.name != sidecar.golden)

    def record(self, audit: AuditRecord, seconds: float) -> EngineRecord:
        """Record of the engine that was built from this request in ``seconds``."""
        return EngineRecord(
            library=self.edition.library,
            version=self.edition.module.__version__,
            device=self.device,
            profiles=self.profiles,
            options=self.options,
            weight_bytes=self.weight_bytes,
            activation_bytes=self.activation_bytes,
            seconds=round(seconds, 3),
            audit=audit,
            ends_bytes=self.ends_bytes,
            refit=self.refit,
        )

    def is_answered_by(self, record: EngineRecord) -> bool:
        """True if an engine with this record is what the request asks for."""
        if self.refit is not None and record.refit is None:  # built by a version that kept no record for refitting
            return False
        same = (record.library, record.version) == (self.edition.library, self.edition.module.__version__)
        same = same and (record.profiles, record.options) == (self.profiles, self.options)
        return same and _kind(record.device) == _kind(self.device)


def _kind(gpu: Gpu | None) -> tuple[str, str] | None:
    return (gpu.name, gpu.capability) if gpu else None
