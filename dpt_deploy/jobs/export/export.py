"""Export a checkpoint to verified ONNX artefacts: load, rewrite, export, check, commit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.staging import commit_all, settle, staged
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import processor, tool_versions
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.files import check_folder, check_text_path
from dpt_deploy.core.progress import say
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.runners import reference_runtime
from dpt_deploy.jobs.common.weights import resolve_weights, settle_terms
from dpt_deploy.jobs.export.approximation import measure_approximation
from dpt_deploy.jobs.export.assemble import describe_artifact, fp32_graph, golden
from dpt_deploy.jobs.export.measurements import prepare
from dpt_deploy.jobs.export.metadata import metadata_of
from dpt_deploy.jobs.export.payloads import write_graphs
from dpt_deploy.jobs.export.request import ExportRequest, check_export, finished, refuse_random_over_trained
from dpt_deploy.jobs.verify.references import compare_with_golden
from dpt_deploy.jobs.verify.result import measured_error
from dpt_deploy.model.families.registry import family_named
from dpt_deploy.model.rewrites.registry import approximated
from dpt_deploy.runtime import registry


@dataclass(frozen=True)
class Exported:
    """All ``artifacts`` of one export, in the order in which they were made; ``precision`` is the requested one."""

    artifacts: tuple[Artifact, ...]
    precision: str

    @property
    def artifact(self) -> Artifact:
        """The artefact of the requested precision."""
        return {each.sidecar.precision: each for each in self.artifacts}[self.precision]


def export_model(request: ExportRequest, out: Path | str, *, force: bool = False) -> Exported:
    """Export a model to the folder ``out`` and verify it.

    Artefacts of the same request and weights that are there already are returned as they are, unless ``force``. The
    nodes of a 16-bit graph that stay FP32 are chosen by the ranges of its tensors on the calibration images. INT8 comes
    as two artefacts of one calibration: ``int8-cpu`` for ONNX Runtime and ``int8`` for engines.

    Raises:
        UsageError: an option that the model, the weights or this version cannot honour.
        BadFileError: the checkpoint is unusable.
        ParityError: an exported graph does not agree with PyTorch; or it is over the budget or slower than FP32, which
            ``force`` and ``request.allow_poor`` permit. Nothing is written.
        ResourceError: disk, memory or network.
    """
    out = Path(out)
    check_export(request)
    check_text_path(out)  # before anything is downloaded
    check_folder(out)
    source = resolve_weights(request.weights, request.recipe, entry=request.entry, commercial=request.commercial)
    requests = {each.precision: each for each in request.variants}
    paths = {precision: out / f"{each.stem}.onnx" for precision, each in requests.items()}
    say(f"weights: {source}")
    model, source, loaded = build_reference(request.recipe.model, source)
    source = settle_terms(source, commercial=request.commercial)
    if loaded is not None:
        for line in loaded.lines():
            say(line, detail=True)
        say(str(loaded))
        _report_family(source, request.recipe.image)
    spec = model.spec
    if not force:
        settle(*paths.values())
        if done := _all_finished(requests, paths, source, spec):
            for path in paths.values():
                say(f"{path} is up to date (--force exports it again)")
            return Exported(done, request.precision)
        for path in paths.values():
            refuse_random_over_trained(path, source)
    with ExitStack() as stack:
        folders = {precision: stack.enter_context(staged(path)) for precision, path in paths.items()}
        made = {precision: folder / paths[precision].name for precision, folder in folders.items()}
        say("exporting")
        exact = None
        if (approximation := request.approximation) is not None:
            exact = fp32_graph(model, request)
            model = approximated(model, approximation.name, approximation.parameters)
        landmarks = model.landmarks
        graph = fp32_graph(model, request)
        evidence = golden(model, graph, request)
        del model  # the last step that needs the network is done, and copies of large weights are about to be made
        setup = prepare(request, source, landmarks, folders[request.precision])
        cost = None
        if approximation is not None and exact is not None:
            cost = measure_approximation(approximation, exact, graph, setup, force=force or request.allow_poor)
            del exact
        metadata = {precision: metadata_of(each, source) for precision, each in requests.items()}
        facts = write_graphs(graph, setup, made, metadata=metadata, allow_poor=force or request.allow_poor)
        del graph
        sidecars = {}
        for precision, path in made.items():
            sidecar = describe_artifact(path, requests[precision], spec, source, facts[precision], evidence, cost)
            say("comparing with PyTorch")
            sidecars[precision] = _with_first_parity(sidecar, path)
        artifacts = commit_all({paths[each]: (folders[each], sidecars[each]) for each in paths})
    return Exported(tuple(artifacts), request.precision)


def _report_family(source: WeightsSource, image: ImageSpec) -> None:
    """Say what the family of the checkpoint implies and no tensor shows: its image rule and its licence."""
    family = family_named(source.family)
    if family is None:
        return
    differences = family.image.differences(image) if family.image else []
    if differences:
        say(f"{family.name} models take images by another rule; this recipe has {', '.join(differences)}")
    if source.kind == "file" and family.licence:
        say(f"{family.name} weights were published under {family.licence}")


def _all_finished(
    requests: Mapping[str, ExportRequest], paths: Mapping[str, Path], source: WeightsSource, spec: ModelSpec
) -> tuple[Artifact, ...]:
    """Return the artefacts that are there already; none unless all of them are."""
    found = [finished(paths[precision], each, source, spec) for precision, each in requests.items()]
    there = [artifact for artifact in found if artifact is not None]
    return tuple(there) if len(there) == len(requests) else ()


def _with_first_parity(sidecar: Sidecar, path: Path) -> Sidecar:
    """Compare at the golden size before anything is committed; ``verify`` runs the full matrix.

    Raises:
        ParityError: the graph does not agree with PyTorch.
    """
    if not registry.find_runtime("ort").installed:
        say("onnxruntime is not installed: not verified (pip install -e '.[ort]', then dpt-deploy verify)")
        return sidecar
    comparison = compare_with_golden(Artifact(path, sidecar))
    if not comparison.passed:
        worst = comparison.failures[0]
        raise ParityError(
            f"the exported graph does not agree with PyTorch at {worst.size}, batch {worst.batch}: "
            f"{measured_error(worst, comparison.tolerances[worst.output])}; nothing was written",
            hint="please report it with the recipe",
        )
    runtime = reference_runtime(sidecar)
    measured = comparison.record(matrix=False, runtime=runtime, tools=tool_versions(), processor=processor())
    return replace(sidecar, parity=measured)
