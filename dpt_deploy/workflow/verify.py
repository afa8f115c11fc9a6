"""The gate: does an artefact still compute what PyTorch computes, at every batch and size asked for?"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dpt_deploy.core.artifact import PLAN, Artifact, Sidecar, open_artifact, record
from dpt_deploy.core.environment import gpu_devices, processor, tool_versions
from dpt_deploy.core.errors import BadFileError, DptError, ParityError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.record import CaseResult
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.spec import Size, parse_size
from dpt_deploy.parity.bisect import Divergence
from dpt_deploy.parity.compare import (
    MIN_SPAN_RANDOM,
    MIN_SPAN_TRAINED,
    Report,
    compare_matrix,
)
from dpt_deploy.workflow.feeds import check_request, model_feed, parity_images
from dpt_deploy.workflow.runners import judge_of, open_runner

Progress = Callable[[CaseResult], None]
Cases = Sequence[tuple[int, Size]]


@dataclass(frozen=True)
class Verification:
    """Outcome of one ``verify``: the report, and where the computations part if they do."""

    artifact: Artifact
    report: Report
    against: str
    divergence: Divergence | None = None

    def to_dict(self) -> dict[str, Any]:
        found = self.divergence
        where = None if found is None else {"tensor": found.tensor, "max": found.max, "last_good": found.last_good}
        return {
            "artifact": str(self.artifact.path),
            "weights": str(self.artifact.sidecar.weights),
            "against": self.against,
            "verified": self.report.passed,
            "tolerance": asdict(self.report.tolerance),
            "cases": [asdict(case) for case in self.report.cases],
            "diverges_at": where,
        }


def verify_artifact(
    path: Path,
    *,
    res: Iterable[Size] = (),
    batch: Iterable[int] = (),
    runtime: str | None = None,
    golden: bool = False,
    against: Path | None = None,
    weights: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare an artefact with its reference over batches x sizes and write the numbers into its sidecar.

    The reference is PyTorch with the artefact's own weights; ``against`` names another artefact (or a checkpoint)
    instead, ``golden`` the stored tensors, which need neither PyTorch nor the checkpoint. Without ``res`` and ``batch``
    the matrix of the recipe is run; without ``runtime`` the one whose numbers are evidence (:func:`judge_of`).

    Raises:
        UsageError: a size or batch that the artefact cannot take.
        BadFileError: the artefact is damaged, or its checkpoint is not there.
        ParityError: the reference is flat or not finite.
    """
    artifact = open_artifact(path)
    sidecar = artifact.sidecar
    runtime = runtime or judge_of(sidecar)
    if golden:
        if res or batch or against or weights:
            raise UsageError(
                "--golden compares the stored tensors at their own size", hint="leave the other options out"
            )
        return Verification(artifact, golden_report(sidecar, path, runtime), "golden tensors")
    if against and weights:
        raise UsageError("--against and --weights exclude each other", hint="leave one out")
    if against is not None and not against.exists():
        raise BadFileError(f"{against} does not exist", hint="give a checkpoint or an exported model (.onnx)")
    cases = _cases(sidecar, tuple(res), tuple(batch))
    if against is not None and against.suffix in (".onnx", ".plan"):
        report = _against_artifact(artifact, open_artifact(against), cases, runtime, progress)
        return Verification(artifact, report, str(against))
    module = _reference(sidecar, weights, against)
    with open_runner(path, runtime) as runner:
        outputs = _outputs(runner, sidecar, lambda images: _torch_output(module, sidecar, images))
        min_span = MIN_SPAN_TRAINED if against else _min_span(sidecar)
        report = compare_matrix(
            outputs,
            cases,
            sidecar.allowed,
            min_span=min_span,
            # Against another checkpoint a failure stands: what that one loses in 16 bits is no measure here.
            again=(lambda case: case) if against else partial(_again, module, sidecar),
            progress=progress,
        )
        artifact = _audited(artifact, runner)
    if against is None:  # else not the artefact's own numbers: its sidecar keeps those
        artifact = _record(artifact, report, runtime, cases)
    located = report.passed or sidecar.kind == PLAN  # an engine shows no tensor inside
    divergence = None if located else _locate(artifact, module, report)
    return Verification(artifact, report, str(against or "PyTorch"), divergence)


def _again(module: Any, sidecar: Sidecar, case: CaseResult) -> CaseResult:
    from dpt_deploy.workflow.type_loss import held_to_pytorch

    return held_to_pytorch(case, module, sidecar)


def golden_report(sidecar: Sidecar, path: Path, runtime: str | None = None) -> Report:
    """Compare with the tensors stored beside the artefact; only the runtime is needed."""
    if not sidecar.golden:
        raise BadFileError(f"{path} has no golden tensors", hint="export it again")
    stored = read_golden(path.with_name(sidecar.golden))
    images, reference = stored["images"], stored["output"]
    size = Size(*images.shape[1:3])
    with open_runner(path, runtime or judge_of(sidecar)) as runner:
        outputs = _outputs(runner, sidecar, lambda _images: reference, images=images)
        return compare_matrix(outputs, [(len(images), size)], sidecar.allowed, min_span=_min_span(sidecar))


def read_golden(path: Path) -> dict[str, np.ndarray]:
    """``images`` (B, H, W, 3) and the reference's ``output``; raises :class:`BadFileError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("images", "output")}
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as exc:
        raise BadFileError(f"golden tensors {path} cannot be read ({exc})", hint="export again") from exc


def _cases(sidecar: Sidecar, res: tuple[Size, ...], batch: tuple[int, ...]) -> Cases:
    if sidecar.engine and not (res or batch):
        return _corners(sidecar.engine.profiles)
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    sizes = res or ((static,) if static else tuple(parse_size(text, stride=stride) for text in sidecar.verify.res))
    batches = batch or ((1,) if static else sidecar.verify.batch)
    cases = [(one, size) for size in sizes for one in batches]
    for one, size in cases:
        check_request(sidecar, size, one)
    if not cases:
        raise UsageError("there is no case to verify: the recipe's matrix is empty", hint="give --res and --batch")
    return cases


def _corners(profiles: Sequence[Profile]) -> Cases:
    """The smallest and the largest shape of every profile, so that each is switched to."""
    shapes = dict.fromkeys(shape for profile in profiles for shape in (profile.low, profile.high))
    return [(batch, Size(height, width)) for batch, height, width in shapes]


def _reference(sidecar: Sidecar, weights: str | None, against: Path | None) -> Any:
    with extra("export", purpose="comparing with PyTorch"):
        from dpt_deploy.workflow.reference import reference_of
    return reference_of(sidecar, weights, against=against)


def _torch_output(module: Any, sidecar: Sidecar, images: np.ndarray) -> np.ndarray:
    from dpt_deploy.workflow.payloads import reference_output

    return reference_output(module, sidecar, images)


def _outputs(
    runner: Runner,
    sidecar: Sidecar,
    reference: Callable[[np.ndarray], np.ndarray],
    *,
    images: np.ndarray | None = None,
) -> Callable[[int, Size], tuple[np.ndarray, np.ndarray]]:
    def run(batch: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
        pixels = parity_images(sidecar.precision, batch, size) if images is None else images
        candidate = runner.infer(model_feed(sidecar, pixels))[sidecar.outputs[0].name]
        return candidate, reference(pixels)

    return run


def _against_artifact(
    artifact: Artifact, other: Artifact, cases: Cases, runtime: str, progress: Progress | None
) -> Report:
    same = (artifact.sidecar.output_kind, artifact.sidecar.model.task) == (
        other.sidecar.output_kind,
        other.sidecar.model.task,
    )
    if not same:
        raise UsageError("the two artefacts return different kinds of output", hint="compare like with like")
    with open_runner(artifact.path, runtime) as runner, open_runner(other.path, judge_of(other.sidecar)) as second:

        def reference(images: np.ndarray) -> np.ndarray:
            return second.infer(model_feed(other.sidecar, images))[other.sidecar.outputs[0].name]

        outputs = _outputs(runner, artifact.sidecar, reference)
        return compare_matrix(
            outputs, cases, artifact.sidecar.allowed, min_span=_min_span(other.sidecar), progress=progress
        )


def _min_span(sidecar: Sidecar) -> float:
    return MIN_SPAN_RANDOM if sidecar.weights.is_random else MIN_SPAN_TRAINED


def _locate(artifact: Artifact, module: Any, report: Report) -> Divergence | None:
    from dpt_deploy.workflow.locate import locate_divergence

    # Naming the tensor is a service on top of a verdict that stands: a full disk must not lose the verdict.
    smallest = min(report.failures, key=lambda case: (parse_size(case.size, stride=1), case.batch))
    size = parse_size(smallest.size, stride=1)
    try:
        return locate_divergence(artifact, module, smallest.batch, size, artifact.sidecar.allowed)
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
    from dpt_deploy.workflow.engine_audit import audited

    found = audited(artifact, runner)
    return replace(artifact, sidecar=replace(artifact.sidecar, engine=replace(engine, audit=found)))


def _record(artifact: Artifact, report: Report, runtime: str, cases: Cases) -> Artifact:
    """Put the measured numbers, passed or not, into the sidecar."""
    whole = set(_cases(artifact.sidecar, (), ())) <= set(cases)
    measured = report.record(matrix=whole, runtime=runtime, tools=tool_versions(), processor=_where(artifact))
    return record(artifact, replace(artifact.sidecar, parity=measured))


def _where(artifact: Artifact) -> str:
    """What the numbers were measured on: an engine's are those of this GPU."""
    found = gpu_devices() if artifact.sidecar.kind == PLAN else []
    return str(found[0]) if found else processor()


def raise_on_failure(verification: Verification) -> None:
    """Turn a failed verification into the error of exit code 5, naming the first tensor that diverges."""
    if verification.report.passed:
        return
    failed = verification.report.failures
    worst = max(failed, key=lambda case: float("inf") if case.note else case.max or 0.0)
    measured = measured_error(worst, verification.report.tolerance)
    found = verification.divergence
    where = f"; first tensor that diverges: {found.tensor} (max {found.max:.2e})" if found else ""
    raise ParityError(
        f"{len(failed)} of {len(verification.report.cases)} cases disagree with {verification.against}; worst at size "
        f"{worst.size}, batch {worst.batch}: {measured}{where}",
        hint="do not ship this file; export it again, and report it if that does not help",
    )


def measured_error(case: CaseResult, tolerance: Tolerance) -> str:
    """What was measured in one failed case, and what was allowed."""
    if case.note:
        return case.note
    if case.max is not None and case.mean is not None:
        limit = case.held_to or tolerance
        allowed = f"allowed {limit.max:.0e} and {limit.mean:.0e}"
        return f"max {case.max:.2e} and mean {case.mean:.2e} of range, {allowed}"
    return f"agreement {case.agreement or 0.0:.5f}, needed {1 - tolerance.disagreement:.5f}"
