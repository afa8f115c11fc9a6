"""Summary of an artefact, whose hashes are checked first."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.optional import load_attribute


@dataclass(frozen=True)
class Inspection:
    """The sidecar, and facts about the graph (not for an engine, whose graph cannot be read)."""

    path: Path
    sidecar: Sidecar
    operators: dict[str, int] = field(default_factory=dict)
    parameters: int = 0
    weight_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "sidecar": asdict(self.sidecar),
            "operators": self.operators,
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
        }


def inspect_artifact(path: Path | str) -> Inspection:
    """Open, check and describe an artefact.

    Raises:
        BadFileError: it is missing, unfinished or damaged.
    """
    path = Path(path)
    artifact = open_artifact(path)
    if artifact.sidecar.kind == PLAN:
        return Inspection(path, artifact.sidecar)
    describe, opened = (
        load_attribute(f"dpt_deploy.graph.analysis.{target}", which="export", purpose="reading the graph")
        for target in ("describe:describe", "opened:OpenedGraph")
    )
    found = describe(opened(path))
    return Inspection(path, artifact.sidecar, found.operators, found.parameters, found.weight_bytes)
