"""Base class of the references that an artefact is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import numpy as np

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import parity_images
from dpt_deploy.jobs.verify.cases import Cases, list_cases, smallest_span
from dpt_deploy.jobs.verify.result import Divergence


class Reference(ABC):
    """A source of reference outputs for one artefact. A context manager: open while outputs are computed.

    ``title`` names it in messages. ``min_span`` is the least range that its outputs must have. ``records`` is True if
    the comparison shows that the artefact computes its own network: only then is it recorded in the sidecar.
    ``audits`` is True if an engine's audit belongs to the verification. ``arithmetic`` is the precision of the runtime
    that computes the artefact, if it is not the artefact's own.
    """

    records = False
    audits = False
    arithmetic = ""

    def __init__(self, artifact: Artifact, title: str) -> None:
        self.artifact, self.sidecar, self.title = artifact, artifact.sidecar, title
        self.min_span = smallest_span(artifact.sidecar)

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027  # most references have nothing to release
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what was opened."""

    def cases(self, res: tuple[Size, ...], batch: tuple[int, ...]) -> Cases:
        """The batches and sizes to compare at; raises what :func:`list_cases` raises."""
        return list_cases(self.sidecar, res, batch)

    def images(self, batch: int, size: Size) -> np.ndarray:
        """The images of one case, bytes (B, H, W, 3)."""
        return parity_images(self.sidecar.precision, batch, size)

    @abstractmethod
    def outputs(self, images: np.ndarray) -> Tensors:
        """The reference's outputs for ``images``, by the artefact's names and in its form."""

    def again(self, case: CaseResult) -> CaseResult:
        """A failed case, held to another tolerance if this reference justifies one."""
        return case

    def locate(self, case: CaseResult) -> Divergence | None:  # noqa: ARG002
        """The first tensor that diverges in a failed case; None if this reference cannot tell."""
        return None
