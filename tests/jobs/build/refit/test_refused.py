"""Refusals of ``dpt-deploy refit`` before a plan is loaded, and uses of a plan that has no weights yet."""

import sys
from dataclasses import replace

import pytest
from support.reporting import recording

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support.fake_refit import install_refit, plan_of, refused
from support.faults.calling import complaint, fine
from support.tiny import copied, exported, tampered

from dpt_deploy.artifact.records import AccuracyRecord, ApproximationRecord, AuditRecord, EngineOptions
from dpt_deploy.artifact.store import open_artifact, write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.engine.builder import Built
from dpt_deploy.graph.analysis.fingerprint import fingerprint
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.jobs.build import build
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact
from dpt_deploy.jobs.common import targets
from dpt_deploy.runtime.cuda import driver as _cuda

pytestmark = pytest.mark.needs("onnx", "torch", "onnxruntime")
BIAS = "head.conv1.bias"
PHOTO = "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture
def library(monkeypatch):
    return install_refit(monkeypatch)


def model(**options):
    return exported("tiny-vit", **options)


def renamed(folder, before, after):
    def edit(graph):
        for tensor in graph.graph.initializer:
            tensor.name = after if tensor.name == before else tensor.name
        for node in graph.graph.node:
            node.input[:] = [after if name == before else name for name in node.input]

    return tampered(model(), folder, edit)


# --- what is refused before anything is loaded ------------------------------------------------------------------------


@pytest.fixture
def unloaded(library):
    library.loads = 0
    return library


def test_a_plan_that_was_not_built_for_it_is_refused_with_the_line_that_builds(unloaded, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out")
    said = refused(capsys, 6, plan, model().path, out=plan.parent)
    assert "tiny-vit-fp32.plan was not built to be refitted" in said
    assert "dpt-deploy build tiny-vit-fp32.onnx --refit" in said


def test_files_of_another_kind_or_damaged_are_refused(unloaded, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    assert "is no engine" in refused(capsys, 4, model().path, model().path, out=plan.parent)
    assert "is an engine; expected an exported model" in refused(capsys, 4, plan, plan, out=plan.parent)
    plan.write_bytes(plan.read_bytes()[:-1])
    assert "bytes, its sidecar says" in refused(capsys, 4, plan, model().path, out=plan.parent)


def test_a_plan_that_does_not_say_of_what_graph_it_is_is_refused(unloaded, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    sidecar = open_artifact(plan).sidecar
    write_sidecar(plan, replace(sidecar, engine=replace(sidecar.engine, refit=None)))
    assert "does not record the graph it was built from" in refused(capsys, 4, plan, model().path, out=plan.parent)


def reshaped(folder):
    def edit(graph):
        (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == BIAS)
        tensor.dims.insert(0, 1)

    return tampered(model(), folder, edit)


OTHERS = {
    "precision": (lambda _: model(precision="fp16"), "its precision is fp16, not fp32"),
    "opset": (lambda _: model(opset=20), "its opset is 20, not 23"),
    "input": (lambda _: model(input_kind="uint8"), "its input kind is uint8, not float32"),
    "network": (lambda _: exported("tiny-conv"), "it has no "),
    "weight": (lambda folder: renamed(folder, BIAS, "other.bias"), "it has other.bias and it has no head.conv1.bias"),
    "shape": (reshaped, "its operators, shapes or constants differ"),
}


@pytest.mark.parametrize(("make", "text"), OTHERS.values(), ids=OTHERS)
def test_a_model_of_another_graph_is_refused_and_the_difference_reported(make, text, unloaded, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    said = refused(capsys, 6, plan, make(tmp_path / "other").path, out=plan.parent)
    assert "has another graph than tiny-vit-fp32.plan, which was built from tiny-vit-fp32.onnx" in said
    assert text in said


def test_other_fp32_nodes_are_reported(unloaded, tmp_path, capsys):
    source = copied(model(precision="fp16"), tmp_path / "model")
    plan = plan_of(source, tmp_path / "out", refit=True)
    islands = {**source.sidecar.islands, "some/Node": "a reason"}
    write_sidecar(source.path, replace(source.sidecar, islands=islands))
    assert "other nodes stay in FP32 (some/Node)" in refused(capsys, 6, plan, source.path, out=plan.parent)


def test_other_nodes_left_unquantised_are_reported(unloaded, tmp_path, capsys):
    source = copied(model(precision="int8"), tmp_path / "model")
    plan = plan_of(source, tmp_path / "out", refit=True)
    record = source.sidecar.quantisation
    changed = replace(record, kept={**record.kept, "some/Node": "a reason"})
    write_sidecar(source.path, replace(source.sidecar, quantisation=changed))
    assert "other nodes are left unquantised (some/Node)" in refused(capsys, 6, plan, source.path, out=plan.parent)


def test_another_approximation_of_the_network_is_refused(unloaded, tmp_path, capsys):
    source = copied(model(), tmp_path / "model")
    plan = plan_of(source, tmp_path / "out", refit=True)
    accuracy = AccuracyRecord("2 rendered scenes", 2, "64", "ort", drift=0.001)
    changed = ApproximationRecord("mix-tokens", {"share": 0.1}, 0.01, accuracy)
    write_sidecar(source.path, replace(source.sidecar, approximation=changed))
    said = refused(capsys, 6, plan, source.path, out=plan.parent)
    assert "its approximation is mix-tokens {'share': 0.1}, not none" in said


def test_a_machine_that_cannot_run_it_cannot_refit_it(unloaded, tmp_path, capsys, monkeypatch):
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    argv = (plan, model().path)
    monkeypatch.setattr(targets, "free_device_memory", lambda: 1000)
    assert "of device memory" in refused(capsys, 7, *argv, out=plan.parent)
    monkeypatch.setattr(targets, "gpu_devices", list)
    assert "the driver finds none" in refused(capsys, 6, *argv, out=plan.parent)
    other = plan_of(model(), tmp_path / "old", version="1.6.0.1", refit=True)
    monkeypatch.undo()
    install_refit(monkeypatch)
    assert "1.7.1.116 is installed" in refused(capsys, 6, other, model().path, out=other.parent)


@pytest.mark.parametrize(("gone", "which"), [("tensorrt_rtx", "rtx"), ("cuda.bindings", "trt")])
def test_what_is_not_installed_is_named(gone, which, unloaded, tmp_path, capsys, monkeypatch):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    monkeypatch.setitem(sys.modules, gone, None)
    for name in ("cuda.driver", "tensorrt.plan"):
        monkeypatch.delitem(sys.modules, f"dpt_deploy.runtime.{name}", raising=False)
    assert f".[{which}]" in refused(capsys, 3, plan, model().path, out=plan.parent)


def test_known_defects_are_reported(tmp_path, monkeypatch):
    install_refit(monkeypatch, "tensorrt", "11.3.0.1")
    plan = plan_of(model(), tmp_path / "out", library="tensorrt", version="11.3.0.1", refit=True)
    with recording() as reporter:
        refit_engine_artifact(plan, model().path)
    said = reporter.lines
    assert any("known defect" in line and "lose the bias" in line for line in said)


# --- a plan without weights, before it gets some ----------------------------------------------------------------------

USES = {
    "verify": ("verify",),
    "golden": ("verify", "--golden"),
    "run": ("run", PHOTO),
    "bench": ("bench", "--runtime", "trt", "--res", "64", "--no-photo", "--no-memory"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_it_does_not_run_and_names_the_command(use, library, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_cuda, "runtime", None)  # whoever came so far would fail here
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    copied(model(), plan.parent)
    sidecar = open_artifact(plan).sidecar
    golden = next(payload for payload in model().sidecar.payloads if payload.name == model().sidecar.golden)
    write_sidecar(plan, replace(sidecar, payloads=(*sidecar.payloads, golden), golden=golden.name))
    more = ["-o", tmp_path / "x.png"] if use[0] == "run" else []
    said = " ".join(complaint(capsys, 6, use[0], plan, *use[1:], *more).split())
    assert "was built without its weights" in said
    assert "dpt-deploy refit PLAN MODEL.onnx" in said


def test_inspect_says_what_it_lacks(tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    assert "no: it has no weights; add them with `dpt-deploy refit`" in fine(capsys, "inspect", plan)


def without_the_library(request, _cache):
    return Built(b"plan", request.record(AuditRecord("network", {}, {}, {}), 0.1), None)


@pytest.mark.parametrize(("option", "text"), [("strip_weights", "dpt-deploy refit"), ("refit", "dpt-deploy verify")])
def test_a_build_keeps_what_refit_needs_and_says_what_is_next(option, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "build_engine", without_the_library)
    done = build_engine_artifact(
        model().path, tmp_path, options=EngineOptions(**{option: True}), library="tensorrt_rtx"
    )
    found = fingerprint(OpenedGraph(model().path))
    record = done.artifact.sidecar.engine.refit
    assert (record.graph, record.weights) == (found.graph, found.weights)
    argv = ("build", model().path, "--library", "tensorrt_rtx", "-o", tmp_path, f"--{option.replace('_', '-')}")
    assert call([str(word) for word in argv]) == 0
    assert text in capsys.readouterr().err


def test_a_build_that_cannot_be_refitted_keeps_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_engine", without_the_library)
    assert build_engine_artifact(model().path, tmp_path, library="tensorrt_rtx").artifact.sidecar.engine.refit is None
