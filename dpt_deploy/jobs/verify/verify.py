"""The gate: does an artefact still compute what PyTorch computes, at every batch and size asked for?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, record
from dpt_deploy.core.environment import gpu_devices, processor, tool_versions
from dpt_deploy.core.errors import BadFileError, DptError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Runner, Tensors
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.inputs import model_feed
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.verify.bisect import Divergence
from dpt_deploy.jobs.verify.cases import Cases, list_cases, paired_outputs, smallest_span
from dpt_deploy.jobs.verify.compare import MIN_SPAN_TRAINED, ParityComparison, compare_matrix
from dpt_deploy.jobs.verify.golden import golden_report
from dpt_deploy.jobs.verify.result import Verification


def verify_artifact(
    path: Path,
    *,
    res: Iterable[Size] = (),
    batch: Iterable[int] = (),
    runtime: str | None = None,
    golden: bool = False,
    against: Path | None = None,
    weights: str | None = None,
) -> Verification:
    """Compare an artefact with its reference over batches x sizes and write the numbers into its sidecar.

    The reference is PyTorch with the artefact's own weights; ``against`` names another artefact (or a checkpoint)
    instead, ``golden`` the stored tensors, which need neither PyTorch nor the checkpoint. Without ``res`` and ``batch``
    the matrix of the recipe is run; without ``runtime`` the one whose numbers are evidence (:func:`reference_runtime`).

    Raises:
        UsageError: a size or batch that the artefact cannot take.
        BadFileError: the artefact is damaged, or its checkpoint is not there.
        ParityError: the reference is flat or not finite.
    """
    artifact = open_artifact(path)
    sidecar = artifact.sidecar
    runtime = runtime or reference_runtime(sidecar)
    if golden:
        if res or batch or against or weights:
            raise UsageError(
                "--golden compares the stored tensors at their own size", hint="leave the other options out"
            )
        return Verification(artifact, golden_report(artifact, runtime), "golden tensors")
    if against and weights:
        raise UsageError("--against and --weights exclude each other", hint="leave one out")
    if against is not None and not against.exists():
        raise BadFileError(f"{against} does not exist", hint="give a checkpoint or an exported model (.onnx)")
    cases = list_cases(sidecar, tuple(res), tuple(batch))
    if against is not None and against.suffix in (".onnx", ".plan"):
        report = _against_artifact(artifact, open_artifact(against), cases, runtime)
        return Verification(artifact, report, str(against))
    module = _reference(sidecar, weights, against)
    with open_runner(artifact, runtime) as runner:
        outputs = paired_outputs(runner, sidecar, lambda images: _torch_output(module, sidecar, images))
        min_span = MIN_SPAN_TRAINED if against else smallest_span(sidecar)
        report = compare_matrix(
            outputs,
            cases,
            sidecar.outputs,
            min_span=min_span,
            # Against another checkpoint a failure stands: what that one loses in 16 bits is no measure here.
            again=(lambda case: case) if against else partial(_again, module, sidecar),
        )
        artifact = _audited(artifact, runner)
    if against is None:  # else not the artefact's own numbers: its sidecar keeps those
        artifact = _record(artifact, report, runtime, cases)
    located = report.passed or sidecar.kind == PLAN  # an engine shows no tensor inside
    divergence = None if located else _locate(artifact, module, report)
    return Verification(artifact, report, str(against or "PyTorch"), divergence)


def _again(module: Any, sidecar: Sidecar, case: CaseResult) -> CaseResult:
    from dpt_deploy.jobs.verify.type_loss import held_to_pytorch

    return held_to_pytorch(case, module, sidecar)


def _reference(sidecar: Sidecar, weights: str | None, against: Path | None) -> Any:
    with extra("export", purpose="comparing with PyTorch"):
        from dpt_deploy.jobs.common.reference import reference_of
    return reference_of(sidecar, weights, against=against)


def _torch_output(module: Any, sidecar: Sidecar, images: np.ndarray) -> Tensors:
    from dpt_deploy.jobs.verify.golden import reference_outputs

    return reference_outputs(module, sidecar, images)


def _against_artifact(artifact: Artifact, other: Artifact, cases: Cases, runtime: str) -> ParityComparison:
    kinds = [{output.name: output.kind.values for output in each.sidecar.outputs} for each in (artifact, other)]
    if kinds[0] != kinds[1]:
        raise UsageError(
            f"the two artefacts return different outputs: {_listed(kinds[0])}, and {_listed(kinds[1])}",
            hint="compare artefacts with the same outputs",
        )
    with open_runner(artifact, runtime) as runner, open_runner(other, reference_runtime(other.sidecar)) as second:

        def reference(images: np.ndarray) -> Tensors:
            return second.infer(model_feed(other.sidecar, images))

        outputs = paired_outputs(runner, artifact.sidecar, reference)
        return compare_matrix(outputs, cases, artifact.sidecar.outputs, min_span=smallest_span(other.sidecar))


def _listed(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({task})" for name, task in kinds.items())


def _locate(artifact: Artifact, module: Any, report: ParityComparison) -> Divergence | None:
    from dpt_deploy.jobs.verify.locate import locate_divergence

    # Naming the tensor is a service on top of a verdict that stands: a full disk must not lose the verdict.
    smallest = min(report.failures, key=lambda case: (parse_size(case.size, stride=1), case.batch))
    size = parse_size(smallest.size, stride=1)
    try:
        return locate_divergence(artifact, module, smallest.batch, size, artifact.sidecar.output(smallest.output))
    except (DptError, OSError):
        return None


def _audited(artifact: Artifact, runner: Runner) -> Artifact:
    """An engine that is open on its GPU tells what it computes in, and for how long.

    Raises:
        ParityError: it was misnamed.
    """
    engine = artifact.sidecar.engine
    if engine is None or not hasattr(runner, "information"):
        return artifact
    from dpt_deploy.jobs.verify.engine_audit import audited

    found = audited(artifact, runner)
    return replace(artifact, sidecar=replace(artifact.sidecar, engine=replace(engine, audit=found)))


def _record(artifact: Artifact, report: ParityComparison, runtime: str, cases: Cases) -> Artifact:
    """Put the measured numbers, passed or not, into the sidecar."""
    whole = set(list_cases(artifact.sidecar, (), ())) <= set(cases)
    measured = report.record(matrix=whole, runtime=runtime, tools=tool_versions(), processor=_where(artifact))
    return record(artifact, replace(artifact.sidecar, parity=measured))


def _where(artifact: Artifact) -> str:
    """What the numbers were measured on: an engine's are those of this GPU."""
    found = gpu_devices() if artifact.sidecar.kind == PLAN else []
    return str(found[0]) if found else processor()
