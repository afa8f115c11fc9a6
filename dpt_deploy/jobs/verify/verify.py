"""Verification: compare an artefact with its reference at every batch and size, and record the result."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact, open_artifact, record, signature_path
from dpt_deploy.core.environment import gpu_devices, processor, tool_versions
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import InspectableRunner, NoKernelError, Runner
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.runners import default_runtime, open_runner, reference_runtime
from dpt_deploy.jobs.common.signed import check_if_asked
from dpt_deploy.jobs.verify.cases import Cases, list_cases
from dpt_deploy.jobs.verify.compare import ParityComparison
from dpt_deploy.jobs.verify.engine_audit import audited
from dpt_deploy.jobs.verify.references import GOLDEN_TITLE, choose_reference, compare_with, compare_with_golden
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
    computes the artefact. By default that is :func:`reference_runtime`; if ``run`` uses another, that one is compared
    with the golden tensors as well. With ``golden`` the default is the runtime of ``run``. Emulation replaces it only
    if it has no kernels for the artefact, and is named.

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
    reference = choose_reference(artifact, golden=golden, against=against, weights=weights)
    cases = reference.cases(tuple(res), tuple(batch))
    named = runtime
    with ExitStack() as stack:
        stack.enter_context(reference)
        runtime, runner = _opened(stack, artifact, named, golden=golden)
        reference.arithmetic = find_runtime(runtime).arithmetic
        comparison = compare_with(reference, runner, cases)
        if reference.audits:
            artifact = _audited(artifact, runner)
    if reference.records and not signature_path(path).exists() and not find_runtime(runtime).served:
        artifact = _record(artifact, comparison, runtime, cases)
    divergence = None
    if not comparison.passed:
        divergence = reference.locate(
            min(comparison.failures, key=lambda case: (parse_size(case.size, stride=1), case.batch))
        )
    deployed = None if golden or named or not reference.records else _deployed(artifact, runtime)
    return Verification(artifact, comparison, reference.title, runtime, divergence, deployed)


def _opened(stack: ExitStack, artifact: Artifact, named: str | None, *, golden: bool) -> tuple[str, Runner]:
    """The runtime that computes the artefact, and its open runner.

    Raises:
        UsageError: the ``named`` runtime does not run artefacts of this kind.
        IncompatibleError: the runtime cannot run this artefact, or computes it wrong.
    """
    evidence = reference_runtime(artifact.sidecar)
    wanted = named or (default_runtime(artifact.sidecar) if golden else evidence)
    try:
        return wanted, stack.enter_context(open_runner(artifact, wanted))
    except NoKernelError as exc:
        if named or wanted == evidence:
            raise
        say(f"not checked in {wanted}, which `run` uses, but in {evidence}, which emulates the types: {exc}")
        return evidence, stack.enter_context(open_runner(artifact, evidence))


def _deployed(artifact: Artifact, evidence: str) -> Verification | None:
    """Compare the runtime of ``run`` with the golden tensors; None if it is the one of the evidence, or cannot run."""
    runtime = default_runtime(artifact.sidecar)
    if runtime == evidence or artifact.golden_path is None:
        return None
    try:
        return Verification(artifact, compare_with_golden(artifact, runtime), GOLDEN_TITLE, runtime)
    except IncompatibleError as exc:
        say(f"not checked in {runtime}, which `run` uses: {exc}")
        return None


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
