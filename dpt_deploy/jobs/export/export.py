"""Checkpoint to a verified ONNX artefact: load, rewrite, export, check, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import processor, tool_versions
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.files import check_folder
from dpt_deploy.core.precision import CLIPPING_METHODS, FP32
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import InputKind, ModelSpec, Task
from dpt_deploy.jobs.common.reference import Progress, build_reference, resolve_weights
from dpt_deploy.jobs.export.assemble import Work, write_payloads
from dpt_deploy.jobs.export.request import ExportRequest, check_export, finished, refuse_random_over_trained
from dpt_deploy.jobs.export.typed import Talk


def export_model(
    backbone: str,
    out: Path,
    *,
    weights: str | None = None,
    task: Task | None = None,
    classes: int | None = None,
    precision: str = FP32,
    opset: int | None = None,
    static: Size | None = None,
    input_kind: InputKind = "float32",
    output_kind: str = "scores",
    calibration: Path | None = None,
    res: Iterable[Size] = (),
    method: str = CLIPPING_METHODS[0],
    budget: float | None = None,
    smooth: bool = False,
    force: bool = False,
    allow_slower: bool = False,
    say: Talk = lambda _line: None,
    progress: Progress | None = None,
    keys: Callable[[Iterable[str]], None] = lambda _lines: None,
) -> Artifact:
    """Export a zoo model or recipe to ``out`` and verify it; return the finished artefact.

    An artefact of the same request and weights that stands there already is returned as it is, unless ``force``.
    ``keys`` is told what became of every key of the checkpoint. Which nodes of a 16-bit graph stay FP32 is chosen by
    the ranges of its tensors on the images of ``calibration`` (default: a few rendered scenes) at the sizes ``res``
    (default: the size of training, and 5/3 of it). INT8 comes as two artefacts of one calibration, ``int8`` for
    engines, which is returned, and ``int8-cpu`` beside it. There ``method`` chooses where tensors are clipped, and as
    many blocks stay unquantised as it takes to change the result by no more than ``budget``, a share; ``smooth`` moves
    the spread of channels behind norms into weights first.

    Raises:
        UsageError: an option that the model or this version cannot honour.
        BadFileError: the checkpoint is unusable.
        ParityError: the exported graph does not agree with PyTorch, is over the budget, or is slower than FP32 (which
            ``force`` and ``allow_slower`` let pass); nothing is written.
        ResourceError: disk, memory or network.
    """
    recipe = load_recipe(backbone, task=task, classes=classes)
    request = ExportRequest(
        recipe,
        precision,
        recipe.opset if opset is None else opset,
        input_kind,
        output_kind,
        static,
        calibration,
        tuple(res),
        method,
        budget,
        smooth,
    )
    check_export(request)
    check_folder(out)  # before anything is downloaded
    source = resolve_weights(weights, recipe, progress)
    paths = [out / f"{each.stem}.onnx" for each in request.flavours]
    say(f"weights: {source}")
    model, source, report = build_reference(recipe.model, source)
    if report is not None:
        keys(report.lines())
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
        work = Work(model, request, source, folders[-1], say, allow_slower=force or allow_slower)
        del model  # the work lets go of it as soon as it can
        sidecars = [
            _made(work, each, folder / path.name, say)
            for each, path, folder in zip(request.flavours, paths, folders, strict=True)
        ]
        return [commit(*each) for each in zip(paths, folders, sidecars, strict=True)][-1]


def _all_finished(
    request: ExportRequest, paths: Sequence[Path], source: WeightsSource, spec: ModelSpec
) -> list[Artifact]:
    """The artefacts that are there already, if all of them are."""
    found = [finished(path, each, source, spec) for each, path in zip(request.flavours, paths, strict=True)]
    return [artifact for artifact in found if artifact is not None] if all(found) else []


def _made(work: Work, request: ExportRequest, path: Path, say: Talk) -> Sidecar:
    """Everything of one artefact, in its private folder."""
    sidecar = write_payloads(work, request, path)
    say("comparing with PyTorch")
    return _with_first_parity(sidecar, path, say)


def _with_first_parity(sidecar: Sidecar, path: Path, say: Talk) -> Sidecar:
    """Compare at the golden size before anything is committed; the full matrix is ``verify``."""
    from dpt_deploy.jobs.common.runners import reference_runtime
    from dpt_deploy.jobs.verify.golden import golden_report
    from dpt_deploy.jobs.verify.result import measured_error
    from dpt_deploy.runtime import registry

    if not registry.available("ort"):
        say("onnxruntime is not installed: not verified (pip install -e '.[ort]', then dpt-deploy verify)")
        return sidecar
    report = golden_report(Artifact(path, sidecar))
    if not report.passed:
        worst = report.failures[0]
        raise ParityError(
            f"the exported graph does not agree with PyTorch at {worst.size}, batch {worst.batch}: "
            f"{measured_error(worst, report.tolerance)}; nothing was written",
            hint="please report it with the recipe",
        )
    measured = report.record(
        matrix=False, runtime=reference_runtime(sidecar), tools=tool_versions(), processor=processor()
    )
    return replace(sidecar, parity=measured)
