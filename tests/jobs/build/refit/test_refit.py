"""``dpt-deploy refit`` with a fake of TensorRT's refitter. On a GPU: ``tests/gpu/test_engine.py``."""

import json
from dataclasses import replace

import pytest
from support.reporting import recording

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from onnx import numpy_helper
from support.engine_checks import is_a_finished_refit
from support.fake_refit import install_refit, plan_bytes, plan_of, refused, weights_in
from support.faults.calling import fine
from support.faults.handmade import listing
from support.tiny import altered, exported, recommitted, tampered

from dpt_deploy.artifact.store import Artifact, open_artifact, write_sidecar
from dpt_deploy.graph.analysis.fingerprint import fingerprint
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact

pytestmark = pytest.mark.needs("onnx", "torch", "onnxruntime")
BIAS = "head.conv1.bias"
PHOTO = "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture
def library(monkeypatch):
    return install_refit(monkeypatch)


def model(**options):
    return exported("tiny-vit", **options)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_a_plan_without_weights_gets_them_and_is_whole(library, tmp_path):
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    before = listing(plan.parent)
    done = refit_engine_artifact(plan, model().path)
    assert done.artifact.path == plan.with_name("tiny-vit-fp32-refitted.plan")
    is_a_finished_refit(done, model())
    assert weights_in(done.artifact.path) == fingerprint(OpenedGraph(model().path)).weights
    assert (done.changed, done.refittable) == (0, True)
    assert before.items() <= listing(plan.parent).items()
    assert len(listing(plan.parent)) == len(before) + 3  # the plan, golden tensors, the sidecar


def test_other_weights_go_into_a_refittable_plan_again_and_again(library, tmp_path):
    plan, tuned = plan_of(model(), tmp_path / "out", refit=True), altered(model(), tmp_path / "tuned")
    first = refit_engine_artifact(plan, tuned.path, tmp_path / "other")
    is_a_finished_refit(first, tuned)
    assert first.artifact.path.parent == tmp_path / "other"
    assert weights_in(first.artifact.path) == fingerprint(OpenedGraph(tuned.path)).weights
    assert first.changed > 100
    again = refit_engine_artifact(first.artifact.path, model().path, tmp_path / "again")
    assert weights_in(again.artifact.path) == weights_in(plan)
    assert again.changed == first.changed


def test_where_it_came_from_is_the_new_model(library, tmp_path):
    tuned = altered(model(), tmp_path / "tuned")
    source = replace(tuned.sidecar.weights, kind="file", path="garden.pt")
    write_sidecar(tuned.path, replace(tuned.sidecar, weights=source))
    plan = plan_of(model(), tmp_path / "out", refit=True)
    with recording() as reporter:
        found = refit_engine_artifact(plan, tuned.path).artifact.sidecar
    said = reporter.lines
    assert found.weights.path == "garden.pt"
    assert found.parents[0].sha256 != open_artifact(plan).sidecar.parents[0].sha256
    assert said[0] == f"putting the weights of tiny-vit-fp32.onnx into {plan.name}"
    assert "without golden tensors" in said[1]  # of a checkpoint that is not there


@pytest.mark.parametrize(("version", "lasting"), [("10.13.3.9", False), ("10.14.1.48", True)])
def test_whether_it_can_be_refitted_again_depends_on_the_version(version, lasting, tmp_path, monkeypatch, capsys):
    install_refit(monkeypatch, "tensorrt", version, known=lasting)
    for options in ({"strip_weights": True}, {"refit": True}):
        plan = plan_of(model(), tmp_path / "out", library="tensorrt", version=version, **options)
        shown = fine(capsys, "refit", plan, model().path, "-o", tmp_path / "done")
        (done,) = (tmp_path / "done").glob("*.plan")
        stays = lasting or "refit" in options
        assert (f"no: keep {plan.name}" in shown) is not stays
        record = open_artifact(done).sidecar.engine
        assert (record.options.refit, record.options.strip_weights, record.refit is not None) == (stays, False, stays)


def test_a_plan_of_that_very_name_is_replaced_as_a_whole(library, tmp_path):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    first = refit_engine_artifact(plan, model().path).artifact
    tuned = altered(model(), tmp_path / "tuned")
    assert refit_engine_artifact(first.path, tuned.path).artifact.path == first.path
    assert weights_in(first.path) == fingerprint(OpenedGraph(tuned.path)).weights
    assert open_artifact(first.path).sidecar.parents == tuned.sidecar.payloads[:1]


def test_the_command_tells_what_it_did(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    shown = fine(capsys, "refit", plan, model().path)
    assert shown.splitlines()[-1].endswith("tiny-vit-fp32-refitted.plan")
    assert "0 changed since the build" in shown
    found = json.loads(fine(capsys, "refit", plan, altered(model(), tmp_path / "tuned", BIAS).path, "--json"))
    assert (found["changed"], found["refittable"], found["model"]) == (1, True, ["tiny-vit-fp32.onnx"])
    assert found["weights"] == len(fingerprint(OpenedGraph(model().path)).weights)


def test_a_weight_that_the_plan_keeps_is_no_matter_while_it_is_the_same(library, tmp_path):
    plan = plan_of(model(), tmp_path / "out", refit=True, fixed=(BIAS,))
    done = refit_engine_artifact(plan, altered(model(), tmp_path / "tuned", "head.conv2.bias").path)
    assert done.weights == len(fingerprint(OpenedGraph(model().path)).weights) - 1


# --- what the library refuses -----------------------------------------------------------------------------------------


def test_a_changed_weight_that_the_plan_cannot_be_given_is_named(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True, fixed=(BIAS,))
    said = refused(capsys, 6, plan, altered(model(), tmp_path / "tuned").path, out=plan.parent)
    assert f"has other values in 1 weight ('{BIAS}'), which this plan cannot take" in said


def test_steps_of_quantisation_that_are_part_of_the_kernels_may_not_change(library, tmp_path, capsys):
    source = model(precision="int8")
    steps = tuple(name for name in fingerprint(OpenedGraph(source.path)).weights if ".step" in name)
    plan = plan_of(source, tmp_path / "out", refit=True, fixed=steps)
    assert refit_engine_artifact(plan, source.path, tmp_path / "same").changed == 0

    def edit(graph):
        (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == steps[0])
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))

    said = refused(capsys, 6, plan, tampered(source, tmp_path / "other", edit).path, out=plan.parent)
    assert steps[0] in said


def rewritten(plan, *, refittable=True, **weights):
    """The plan with more weights in it, as a library may name them that is another than the parser."""
    sidecar = open_artifact(plan).sidecar
    stripped = sidecar.engine.options.strip_weights
    plan.write_bytes(plan_bytes(weights_in(plan) | weights, refittable=refittable, stripped=stripped))
    recommitted(Artifact(plan, sidecar))


def test_a_weight_that_the_file_does_not_give_is_named(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", strip_weights=True)
    rewritten(plan, folded=None)
    said = refused(capsys, 6, plan, model().path, out=plan.parent)
    assert "does not give the plan 1 weight ('folded')" in said


def test_where_none_is_missing_the_refitter_speaks_for_itself(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    rewritten(plan, folded="0123")
    said = refused(capsys, 6, plan, model().path, out=plan.parent)
    assert "does not give the plan all of its weights: Only successfully refitted" in said


def test_an_engine_that_denies_it_is_refused(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    rewritten(plan, refittable=False)
    assert "reports that this plan cannot be refitted" in refused(capsys, 6, plan, model().path, out=plan.parent)


FAULTS = {
    "load": (6, {"loads": 0}, "cannot load tiny-vit-fp32.plan on this GPU"),
    "load again": (6, {"loads": 1}, "cannot load tiny-vit-fp32-refitted.plan on this GPU"),
    "refit": (6, {"refits": False, "errors": ["Error Code 4: no"]}, "did not take the weights of tiny-vit-fp32.onnx"),
    "memory": (7, {"refits": False, "errors": ["Error Code 2: OutOfMemory"]}, "OutOfMemory"),
    "serialise": (6, {"serialises": False}, "did not serialise the refitted engine: no reason was given"),
}


@pytest.mark.parametrize(("code", "faults", "text"), FAULTS.values(), ids=FAULTS)
def test_what_fails_in_the_library_is_reported_and_leaves_nothing(code, faults, text, tmp_path, capsys, monkeypatch):
    install_refit(monkeypatch, **faults)
    plan = plan_of(model(), tmp_path / "out", refit=True)
    assert text in refused(capsys, code, plan, model().path, out=plan.parent)


def test_a_failure_leaves_the_plan_of_before(library, tmp_path, capsys):
    plan = plan_of(model(), tmp_path / "out", refit=True)
    refit_engine_artifact(plan, model().path)
    library.refits = False
    refused(capsys, 6, plan, altered(model(), tmp_path / "tuned").path, out=plan.parent)
