"""References to compare an artefact with: one class for each kind, and the choice between them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.runner import Runner, Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.verify.base import Reference
from dpt_deploy.jobs.verify.cases import Cases, smallest_span
from dpt_deploy.jobs.verify.compare import ParityComparison, compare_matrix, expected_outputs
from dpt_deploy.jobs.verify.golden import read_golden

GOLDEN_TITLE = "golden tensors"
_PYTORCH = "dpt_deploy.jobs.verify.pytorch"  # imported on demand: the other references work without PyTorch


class GoldenReference(Reference):
    """The tensors stored next to the artefact, at their own size. Needs the runtime only.

    Raises:
        BadFileError: there are none, or they are damaged.
    """

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact, GOLDEN_TITLE)
        if artifact.golden_path is None:
            raise BadFileError(f"{artifact.path} has no golden tensors", hint="export it again")
        self._images, self._outputs = read_golden(artifact.golden_path, artifact.sidecar.outputs)

    def cases(self, res: tuple[Size, ...], batch: tuple[int, ...]) -> Cases:
        if res or batch:
            raise _golden_alone()
        return [(len(self._images), Size(*self._images.shape[1:3]))]

    def images(self, batch: int, size: Size) -> np.ndarray:  # noqa: ARG002
        return self._images

    def outputs(self, images: np.ndarray) -> Tensors:  # noqa: ARG002
        return self._outputs


class ArtifactReference(Reference):
    """Another artefact with the same outputs, in its own reference runtime.

    Raises:
        UsageError: it has other outputs.
    """

    def __init__(self, artifact: Artifact, other: Artifact) -> None:
        super().__init__(artifact, str(other.path))
        self._other, self._stack = other, ExitStack()
        self.min_span = smallest_span(other.sidecar)
        kinds = [{output.name: output.kind.values for output in each.sidecar.outputs} for each in (artifact, other)]
        if kinds[0] != kinds[1]:
            listed = [", ".join(f"{name} ({values})" for name, values in each.items()) for each in kinds]
            raise UsageError(
                f"the two artefacts return different outputs: {listed[0]}; and {listed[1]}",
                hint="compare artefacts with the same outputs",
            )

    def __enter__(self) -> Self:
        self._runner = self._stack.enter_context(open_runner(self._other, reference_runtime(self._other.sidecar)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def outputs(self, images: np.ndarray) -> Tensors:
        return self._runner.infer(model_inputs(self._other.sidecar, images))


def choose_reference(
    artifact: Artifact, *, golden: bool = False, against: Path | None = None, weights: str | None = None
) -> Reference:
    """The reference that the options of ``verify`` ask for; PyTorch with the artefact's own weights by default.

    Raises:
        UsageError: options that exclude each other.
        BadFileError: a file is missing or damaged.
        MissingExtraError: PyTorch is needed and not installed.
    """
    if golden and (against or weights):
        raise _golden_alone()
    if golden:
        return GoldenReference(artifact)
    if against and weights:
        raise UsageError("--against and --weights exclude each other", hint="leave one out")
    if against is not None and not against.exists():
        raise BadFileError(f"{against} does not exist", hint="give a checkpoint or an exported model (.onnx)")
    if against is not None and against.suffix in (".onnx", ".plan"):
        return ArtifactReference(artifact, open_artifact(against))
    name = "CheckpointReference" if against else "PyTorchReference"
    made_by_pytorch = load_attribute(f"{_PYTORCH}:{name}", which="export", purpose="comparing with PyTorch")
    reference: Reference = made_by_pytorch(artifact, against or weights)
    return reference


def compare_with(reference: Reference, runner: Runner, cases: Cases) -> ParityComparison:
    """Compare every output that ``runner`` computes with those of an open ``reference``, in every case."""
    sidecar = reference.sidecar

    def run(batch: int, size: Size) -> tuple[Tensors, Tensors]:
        images = reference.images(batch, size)
        return runner.infer(model_inputs(sidecar, images)), reference.outputs(images)

    return compare_matrix(run, cases, expected_outputs(sidecar), min_span=reference.min_span, again=reference.again)


def compare_with_golden(artifact: Artifact, runtime: str | None = None) -> ParityComparison:
    """Compare an artefact with its golden tensors in ``runtime`` (default: its reference runtime)."""
    reference = GoldenReference(artifact)
    with open_runner(artifact, runtime or reference_runtime(artifact.sidecar)) as runner:
        return compare_with(reference, runner, reference.cases((), ()))


def _golden_alone() -> UsageError:
    return UsageError("--golden compares the stored tensors at their own size", hint="leave the other options out")
