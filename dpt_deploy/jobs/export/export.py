"""Checkpoint to a verified ONNX artefact: load, rewrite, export, check, commit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import processor, tool_versions
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.files import check_folder
from dpt_deploy.core.progress import say
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.jobs.export.assemble import Work, write_payloads
from dpt_deploy.jobs.export.request import ExportRequest, check_export, finished, refuse_random_over_trained


def export_model(request: ExportRequest, out: Path, *, force: bool = False) -> Artifact:
    """Export a model to the folder ``out`` and verify it; return the finished artefact.

    An artefact of the same request and weights that is there already is returned as it is, unless ``force``. The nodes
    of a 16-bit graph that stay FP32 are chosen by the ranges of its tensors on the calibration images. INT8 comes as
    two artefacts of one calibration: ``int8`` for engines, which is returned, and ``int8-cpu`` next to it.

    Raises:
        UsageError: an option that the model or this version cannot honour.
        BadFileError: the checkpoint is unusable.
        ParityError: the exported graph does not agree with PyTorch, is over the budget, or is slower than FP32 (which
            ``force`` and ``request.allow_slower`` permit); nothing is written.
        ResourceError: disk, memory or network.
    """
    check_export(request)
    check_folder(out)  # before anything is downloaded
    recipe = request.recipe
    source = resolve_weights(request.weights, recipe)
    paths = [out / f"{each.stem}.onnx" for each in request.flavours]
    say(f"weights: {source}")
    model, source, report = build_reference(recipe.model, source)
    if report is not None:
        for line in report.lines():
            say(line, detail=True)
        say(str(report))
    if not force:
        if done := _all_finished(request, paths, source, model.spec):
            for path in paths:
                say(f"{path} is up to date (--force exports it again)")
            return done[-1]
        for path in paths:
            refuse_random_over_trained(path, source)
    with ExitStack() as stack:
        folders = [stack.enter_context(staged(path)) for path in paths]
        say("exporting")
        work = Work(model, request, source, folders[-1], allow_slower=force or request.allow_slower)
        del model  # the work lets go of it as soon as it can
        sidecars = [
            _made(work, each, folder / path.name)
            for each, path, folder in zip(request.flavours, paths, folders, strict=True)
        ]
        return [commit(*each) for each in zip(paths, folders, sidecars, strict=True)][-1]


def _all_finished(
    request: ExportRequest, paths: Sequence[Path], source: WeightsSource, spec: ModelSpec
) -> list[Artifact]:
    """The artefacts that are there already, if all of them are."""
    found = [finished(path, each, source, spec) for each, path in zip(request.flavours, paths, strict=True)]
    return [artifact for artifact in found if artifact is not None] if all(found) else []


def _made(work: Work, request: ExportRequest, path: Path) -> Sidecar:
    """Everything of one artefact, in its private folder."""
    sidecar = write_payloads(work, request, path)
    say("comparing with PyTorch")
    return _with_first_parity(sidecar, path)


def _with_first_parity(sidecar: Sidecar, path: Path) -> Sidecar:
    """Compare at the golden size before anything is committed; the full matrix is ``verify``."""
    from dpt_deploy.jobs.common.runners import reference_runtime
    from dpt_deploy.jobs.verify.references import compare_with_golden
    from dpt_deploy.jobs.verify.result import measured_error
    from dpt_deploy.runtime import registry

    if not registry.find_runtime("ort").installed:
        say("onnxruntime is not installed: not verified (pip install -e '.[ort]', then dpt-deploy verify)")
        return sidecar
    report = compare_with_golden(Artifact(path, sidecar))
    if not report.passed:
        worst = report.failures[0]
        raise ParityError(
            f"the exported graph does not agree with PyTorch at {worst.size}, batch {worst.batch}: "
            f"{measured_error(worst, report.tolerances[worst.output])}; nothing was written",
            hint="please report it with the recipe",
        )
    measured = report.record(
        matrix=False, runtime=reference_runtime(sidecar), tools=tool_versions(), processor=processor()
    )
    return replace(sidecar, parity=measured)
