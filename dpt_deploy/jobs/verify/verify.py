"""Verification: compare an artefact with its reference at every batch and size, and record the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact, open_artifact, record, signature_path
from dpt_deploy.core.environment import gpu_devices, processor, tool_versions
from dpt_deploy.core.runner import InspectableRunner, Runner
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.common.signed import check_if_asked
from dpt_deploy.jobs.verify.cases import Cases, list_cases
from dpt_deploy.jobs.verify.compare import ParityComparison
from dpt_deploy.jobs.verify.engine_audit import audited
from dpt_deploy.jobs.verify.references import choose_reference, compare_with
from dpt_deploy.jobs.verify.result import Verification
from dpt_deploy.runtime.registry import find_runtime


def verify_artifact(
    path: Path | str,
    *,
    res: Iterable[Size] = (),
    batch: Iterable[int] = (),
    runtime: str | None = None,
    golden: bool = False,
    against: Path | str | None = None,
    weights: Path | str | None = None,
    public_key: Path | str | None = None,
    signature: Path | str | None = None,
) -> Verification:
    """Compare an artefact with its reference over batches x sizes and write the numbers into its sidecar.

    The reference is PyTorch with the artefact's own weights. ``against`` names another artefact or checkpoint instead.
    ``golden`` takes the stored tensors, which need neither PyTorch nor the checkpoint. ``weights`` is the place of the
    artefact's own checkpoint, if it was moved. Without ``res`` and ``batch`` the recipe's matrix is run. ``runtime``
    computes the artefact (default: :func:`reference_runtime`).

    With ``public_key`` the ``signature`` is checked before anything is read. The sidecar of a signed artefact is not
    changed.

    Raises:
        UsageError: a size or batch that the artefact cannot take, or options that exclude each other.
        BadFileError: the artefact is damaged, or its checkpoint or signature is missing.
        SignatureMismatchError: the artefact is not what was signed.
        ParityError: the reference is flat or not finite, or an engine does not compute in its precision.
    """
    public_key = None if public_key is None else Path(public_key)
    signature = None if signature is None else Path(signature)
    path = Path(path)
    against = None if against is None else Path(against)
    weights = None if weights is None else str(weights)
    check_if_asked(path, public_key, signature)
    artifact = open_artifact(path)
    runtime = runtime or reference_runtime(artifact.sidecar)
    reference = choose_reference(artifact, golden=golden, against=against, weights=weights)
    reference.arithmetic = find_runtime(runtime).arithmetic
    cases = reference.cases(tuple(res), tuple(batch))
    with reference, open_runner(artifact, runtime) as runner:
        comparison = compare_with(reference, runner, cases)
        if reference.audits:
            artifact = _audited(artifact, runner)
    if reference.records and not signature_path(path).exists():
        artifact = _record(artifact, comparison, runtime, cases)
    divergence = None
    if not comparison.passed:
        divergence = reference.locate(
            min(comparison.failures, key=lambda case: (parse_size(case.size, stride=1), case.batch))
        )
    return Verification(artifact, comparison, reference.title, divergence)


def _audited(artifact: Artifact, runner: Runner) -> Artifact:
    """The artefact with the audit of its engine, which is open on its GPU.

    Raises:
        ParityError: the engine does not compute in its precision.
    """
    engine = artifact.sidecar.engine
    if engine is None or not isinstance(runner, InspectableRunner):
        return artifact
    found = audited(artifact, runner)
    return replace(artifact, sidecar=replace(artifact.sidecar, engine=replace(engine, audit=found)))


def _record(artifact: Artifact, comparison: ParityComparison, runtime: str, cases: Cases) -> Artifact:
    """Put the measured numbers, passed or not, into the sidecar; an engine's were measured on this GPU."""
    gpus = gpu_devices() if artifact.sidecar.kind == PLAN else []
    measured = comparison.record(
        matrix=set(list_cases(artifact.sidecar, (), ())) <= set(cases),
        runtime=runtime,
        tools=tool_versions(),
        processor=str(gpus[0]) if gpus else processor(),
    )
    return record(artifact, replace(artifact.sidecar, parity=measured))
