"""The references that PyTorch computes: the artefact's own weights, or another checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import parse_size
from dpt_deploy.jobs.common.reference import reference_of, reference_outputs
from dpt_deploy.jobs.verify.base import Reference
from dpt_deploy.jobs.verify.compare import MIN_SPAN_TRAINED
from dpt_deploy.jobs.verify.locate import locate_divergence
from dpt_deploy.jobs.verify.result import Divergence
from dpt_deploy.jobs.verify.type_loss import held_to_pytorch
from dpt_deploy.model.dpt import DPT


class PyTorchReference(Reference):
    """The network in PyTorch with the artefact's own weights; ``weights`` is the place of its checkpoint now.

    Raises:
        BadFileError: the checkpoint is missing, or not the one that was exported.
        UsageError: ``weights`` for an artefact with random weights.
    """

    records = True
    audits = True

    def __init__(self, artifact: Artifact, weights: str | None = None) -> None:
        super().__init__(artifact, "PyTorch")
        self._weights = weights

    def __enter__(self) -> Self:
        self._module = self._build()
        return self

    def outputs(self, images: np.ndarray) -> Tensors:
        return reference_outputs(self._module, self.sidecar, images)

    def again(self, case: CaseResult) -> CaseResult:
        return held_to_pytorch(case, self._module, self.sidecar, self.arithmetic)

    def locate(self, case: CaseResult) -> Divergence | None:
        """The first tensor that diverges; None for an engine, which shows no tensor inside.

        The verdict stands without it: a full disk must not lose the verdict.
        """
        if self.sidecar.kind == PLAN:
            return None
        size, output = parse_size(case.size, stride=1), self.sidecar.output(case.output)
        try:
            return locate_divergence(self.artifact, self._module, case.batch, size, output)
        except (DptError, OSError):
            return None

    def _build(self) -> DPT:
        return reference_of(self.sidecar, self._weights)


class CheckpointReference(PyTorchReference):
    """The network in PyTorch with the weights of another checkpoint."""

    records = False

    def __init__(self, artifact: Artifact, checkpoint: Path) -> None:
        super().__init__(artifact)
        self.title, self.min_span, self._checkpoint = str(checkpoint), MIN_SPAN_TRAINED, checkpoint

    def again(self, case: CaseResult) -> CaseResult:
        """The case as it is: the rounding errors of another checkpoint do not excuse this artefact."""
        return case

    def _build(self) -> DPT:
        return reference_of(self.sidecar, against=self._checkpoint)
