"""Diagnosis of a typed artefact: headroom, noise, the first tensor that is not finite, and the nodes to keep.

The graph is compared with itself in FP32 (:mod:`dpt_deploy.graph.precision.emulate`), with unrounded activations
(:mod:`dpt_deploy.graph.precision.bypass`). Neither PyTorch nor the checkpoint is needed, and every difference found is
due to the types of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import Artifact, open_model
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.verify.golden import golden_size
from dpt_deploy.jobs.verify.result import Divergence
from dpt_deploy.jobs.verify.search import smallest_set

with extra("export", purpose="diagnosing a graph"):
    from dpt_deploy.jobs.verify.variants import Headroom, Noise, OutputError, QuantisedVariants, Variants


@dataclass(frozen=True)
class Diagnosis:
    """Findings at one size. ``error`` is that of the output that is worst for its tolerance.

    ``keep`` are the nodes to keep in higher precision (16 bits: FP32; 8 bits: unquantised) to meet the tolerance. It is
    empty if the tolerance is met already, and None if rounding is not the cause.
    """

    artifact: Artifact
    size: Size
    error: OutputError
    headroom: tuple[Headroom, ...]
    noise: tuple[Noise, ...]
    not_finite: str | None
    diverges_at: Divergence | None
    keep: tuple[str, ...] | None

    @property
    def passed(self) -> bool:
        return self.keep == ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifact": str(self.artifact.path),
            "precision": self.artifact.sidecar.precision,
            "size": str(self.size),
            "output": self.error.output,
            "max": self.error.max if np.isfinite(self.error.max) else None,
            "mean": self.error.mean if np.isfinite(self.error.mean) else None,
            "tolerance": asdict(self.error.tolerance),
            "headroom": [asdict(each) for each in self.headroom],
            "noise": [asdict(each) for each in self.noise],
            "not_finite": self.not_finite,
            "diverges_at": self.diverges_at.tensor if self.diverges_at else None,
            "spare": None if self.keep is None else list(self.keep),
        }


def diagnose_artifact(path: Path | str, *, size: Size | None = None, allowed: float | None = None) -> Diagnosis:
    """Diagnose the artefact of 16 or 8 bits at ``path`` at ``size`` (default: that of its golden tensors), batch 1.

    ``allowed`` is the largest error, as a share of an output's range (default: the artefact's own tolerance). Of
    several outputs, each is held to its own.

    Raises:
        UsageError: it is FP32, returns labels, or does not take the size.
        BadFileError: it is damaged.
        ResourceError: disk or memory.
    """
    path = Path(path)
    artifact = open_model(path)
    size = _check(artifact, size)
    with _variants(artifact, size, _tolerances(artifact, allowed)) as variants:
        say(f"measuring headroom at {size}")
        headroom, noise = variants.headroom(), variants.noise()
        not_finite, divergence = variants.first_trouble()
        error = variants.error(())
        say("searching for the nodes to keep in higher precision")
        found = smallest_set(variants.nodes, variants.within)
    keep = None if found is None else tuple(name for name in variants.nodes if name in found)
    return Diagnosis(artifact, size, error, headroom, noise, not_finite, divergence, keep)


def _check(artifact: Artifact, size: Size | None) -> Size:
    sidecar = artifact.sidecar
    if not find_precision(sidecar.precision).is_narrow:
        raise UsageError(
            f"{artifact.path.name} is {sidecar.precision}: it has no narrow types to diagnose",
            hint="`dpt-deploy verify` names the first tensor that diverges in it",
        )
    if any(output.kind.compare != "range" for output in sidecar.outputs):
        outputs = ", ".join(f"{output.name} ({output.task})" for output in sidecar.outputs)
        raise UsageError(
            f"{artifact.path.name} returns {outputs}; diagnosing needs outputs with a range to measure errors by",
            hint="export it with --output scores, diagnose that",
        )
    size = size or golden_size(sidecar)[1]
    check_request(sidecar, size)
    return size


def _tolerances(artifact: Artifact, allowed: float | None) -> dict[str, Tolerance]:
    own = {output.name: output.allowed for output in artifact.sidecar.outputs}
    if allowed is None:
        return own
    return {name: replace(each, max=allowed, mean=min(each.mean, allowed)) for name, each in own.items()}


def _variants(artifact: Artifact, size: Size, tolerances: Mapping[str, Tolerance]) -> Variants:
    sidecar = artifact.sidecar
    inputs = model_inputs(sidecar, parity_images(sidecar.precision, 1, size))
    if sidecar.quantisation is None:
        return Variants(artifact, inputs, tolerances)
    return QuantisedVariants(artifact, inputs, tolerances, sidecar.quantisation)
