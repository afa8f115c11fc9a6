"""``dpt-deploy build`` through the real builder of TensorRT-RTX, which needs no GPU: what it takes, what it refuses."""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.faults.handmade import listing
from support.paths import ROOT
from support.reporting import recording
from support.tiny import copied, exported, tampered

from dpt_deploy.artifact import defects
from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.artifact.store import open_artifact, write_sidecar
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.engine import builder
from dpt_deploy.engine.compat import load
from dpt_deploy.engine.request import BuildRequest
from dpt_deploy.jobs.build import build as build_job
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.build.request import choose_profiles

pytestmark = pytest.mark.needs("onnx", "torch", "onnxruntime", "tensorrt_rtx")

PHOTO = "dpt_deploy/data/photographs/coffee.jpg"


def build(artifact, out, res="64", **options):
    return build_engine_artifact(artifact.path, out, res=parse_ranges(res), library="tensorrt_rtx", **options)


def build_argv(artifact, out, *more, res="64"):
    return ["build", artifact.path, "--res", res, "--library", "tensorrt_rtx", "-o", out, *more]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One engine of two sizes in batches up to 3; leave it as it is."""
    return build(
        exported("tiny-vit", precision="fp16"), tmp_path_factory.mktemp("engine"), "64,64x96", batch=3
    ).artifact


# --- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-seg"])
def test_every_kind_of_network_builds_in_every_type(name, precision, tmp_path):
    record = build(exported(name, precision=precision), tmp_path).artifact.sidecar.engine
    whole, parted = record.audit.attention["whole"], record.audit.attention["decomposable"]
    assert (parted if precision == "fp32" else whole) == {"tiny-hybrid": 2}.get(name, 4)
    assert (whole if precision == "fp32" else parted) == 0
    assert record.audit.share(precision) > 0.7
    assert record.device is None


@pytest.mark.parametrize(("name", "precision"), [("tiny-vit", "int8"), ("tiny-hybrid", "int8"), ("tiny-hybrid", "fp8")])
def test_eight_bits_build_and_stay_eight_bits(name, precision, tmp_path):
    audit = build(exported(name, precision=precision), tmp_path).artifact.sidecar.engine.audit
    assert audit.share(precision) > 0.5
    assert audit.attention["decomposable"] == 0


def test_the_file_for_the_cpu_is_refused_and_its_twin_is_named(tmp_path, capsys):
    engine = exported("tiny-vit", precision="int8")
    twin = open_artifact(engine.path.with_name(engine.sidecar.quantisation.twin))
    said = complaint(capsys, 2, *build_argv(twin, tmp_path))
    assert "quantised for ONNX Runtime's CPU" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"input_kind": "uint8"}, "64 batch 1"),
        ({"static": Size(64, 96), "opset": 20}, "64x96 batch 1"),
        ({"opset": 20}, "64 batch 1"),
    ],
    ids=["uint8", "static", "opset20"],
)
def test_every_variant_of_a_graph_builds(options, shown, tmp_path):
    artifact = exported("tiny-vit", **options)
    record = build(artifact, tmp_path, "64x96" if "static" in options else "64").artifact.sidecar.engine
    assert [str(profile) for profile in record.profiles] == [shown]


def test_labels_build_too(tmp_path):
    build(exported("tiny-seg", output_kind="labels"), tmp_path)


def test_the_sidecar_says_what_was_built_of_what_and_that_nothing_is_verified(engine):
    sidecar, source = engine.sidecar, exported("tiny-vit", precision="fp16").sidecar
    record = sidecar.engine
    assert sidecar.kind == "plan"
    assert sidecar.parity is None
    assert sidecar.parents == source.payloads[:1]
    assert [payload.name for payload in sidecar.payloads] == [f"{engine.path.name}", f"{engine.path.name}.golden.npz"]
    assert [str(p) for p in record.profiles] == ["64 batch 1", "64 batch 2..3", "64x96 batch 1", "64x96 batch 2..3"]
    assert (record.library, record.device) == ("tensorrt_rtx", None)
    assert record.audit.share("fp16") > 0.9
    assert 0 < record.activation_bytes < 100e6
    assert open_artifact(engine.path).sidecar == sidecar


def test_a_plan_is_what_the_library_wrote_and_nothing_else(engine):
    assert engine.path.read_bytes()[:4] == b"vtrt"  # no prefix of ours: trtexec reads it


def test_an_engine_has_golden_tensors_of_a_shape_that_it_takes(engine):
    with np.load(engine.golden_path) as golden:
        assert golden["images"].shape == (2, 64, 64, 3)
        assert golden["output"].shape == (2, 64, 64)


def test_golden_tensors_of_the_model_are_kept_where_they_fit(tmp_path):
    artifact = exported("tiny-vit", precision="fp16")
    golden = build(artifact, tmp_path, "96x128", batch=2).artifact.golden_path
    with np.load(golden) as ours, np.load(artifact.golden_path) as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in ("images", "output"))


def test_without_the_checkpoint_an_engine_is_built_without_golden_tensors_and_says_so(tmp_path):
    artifact = copied(exported("tiny-vit", precision="fp16"), tmp_path / "model")
    gone = replace(artifact.sidecar.weights, kind="file", path=str(tmp_path / "gone.pt"))
    write_sidecar(artifact.path, replace(artifact.sidecar, weights=gone))
    with recording() as reporter:
        building = build(artifact, tmp_path / "out")
    said = reporter.lines
    assert building.artifact.golden_path is None
    assert any("without golden tensors" in line and "gone.pt" in line for line in said)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_an_engine_and_shows_it(tmp_path, capsys):
    artifact = exported("tiny-vit", precision="fp16")
    out = fine(capsys, *build_argv(artifact, tmp_path / "out", "--compute-capabilities", "8.9,12.0", res="64..96"))
    assert out.splitlines()[-1].endswith("tiny-vit-fp16.plan")
    assert "none: built without a GPU" in out
    assert "for 8.9, 12.0" in out
    assert "64..96 batch 1" in out
    shown = fine(capsys, "inspect", tmp_path / "out/tiny-vit-fp16.plan")
    assert "4 fused" in shown
    assert "64..96 batch 1" in shown
    assert "no: run `dpt-deploy verify`" in shown
    data = json.loads(fine(capsys, "inspect", tmp_path / "out/tiny-vit-fp16.plan", "--json"))
    assert data["sidecar"]["engine"]["options"]["compute_capabilities"] == ["8.9", "12.0"]


def test_an_engine_that_is_up_to_date_stays_and_another_order_replaces_it(tmp_path):
    artifact = exported("tiny-vit", precision="fp16")
    first = build(artifact, tmp_path)
    written = listing(tmp_path)
    with recording() as reporter:
        again = build(artifact, tmp_path)
    said = reporter.lines
    assert (first.fresh, again.fresh) == (True, False)
    assert listing(tmp_path) == written
    assert any("up to date" in line for line in said)
    assert build(artifact, tmp_path, "64x96").fresh
    assert build(artifact, tmp_path, "64x96", options=EngineOptions(level=1)).fresh
    assert build(artifact, tmp_path, "64x96", options=EngineOptions(level=1), force=True).fresh


def test_a_model_exported_again_makes_the_engine_stale(tmp_path):
    artifact = copied(exported("tiny-vit", precision="fp16"), tmp_path / "model")
    build(artifact, tmp_path)
    other = tampered(artifact, tmp_path / "other", lambda model: setattr(model, "producer_version", "again"))
    assert build(other, tmp_path).fresh


def test_without_res_the_size_of_training_is_built(tmp_path):
    record = build_engine_artifact(exported("tiny-vit").path, tmp_path, library="tensorrt_rtx").artifact.sidecar.engine
    assert [str(profile) for profile in record.profiles] == ["96 batch 1"]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_fp32_graph_named_fp16_is_refused_and_nothing_is_written(tmp_path, capsys):
    artifact = copied(exported("tiny-vit"), tmp_path / "model")
    write_sidecar(artifact.path, replace(artifact.sidecar, precision="fp16"))
    said = complaint(capsys, 5, *build_argv(artifact, tmp_path / "out"))
    assert "is named fp16 but does 100 % of its arithmetic in fp32" in " ".join(said.split())
    assert not (tmp_path / "out").exists()


def test_a_node_that_the_parser_does_not_know_is_named(tmp_path, capsys):
    def spoil(model):
        node = next(node for node in model.graph.node if node.op_type == "Gelu")
        node.op_type, node.domain = "Mystery", "nowhere"

    artifact = tampered(exported("tiny-vit", precision="fp16"), tmp_path / "model", spoil)
    with pytest.raises(IncompatibleError, match=r"does not take node 'encoder\.blocks\.0.*Gelu' \(Mystery\)"):
        builder.build_engine(request(artifact))


def test_an_empty_file_is_no_onnx(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_text("hello")
    with pytest.raises(builder.BadFileError, match="not an ONNX file"):
        builder.build_engine(request(replace(exported("tiny-vit"), path=path)))


def request(artifact):
    profiles = choose_profiles(artifact.sidecar, parse_ranges("64"), 1)
    edition = load("tensorrt_rtx")
    return BuildRequest(artifact, edition, None, profiles, EngineOptions(), costs=(), weight_bytes=0, operations={})


def test_fp32_attention_that_may_not_be_taken_apart_does_not_build(monkeypatch):
    """Why 16-bit attention is left whole: then a build proves a kernel of its own."""
    monkeypatch.setattr(builder, "let_fp32_attention_decompose", lambda *_: 0)
    with pytest.raises(IncompatibleError, match="dedicated kernel"):
        builder.build_engine(request(exported("tiny-vit")))


REFUSED = {
    "hardware": (2, ("--hardware-compatible",), "has no hardware compatibility"),
    "version": (2, ("--version-compatible",), "has no version compatibility"),
    "cache": (2, ("--timing-cache", "cache.bin"), "has no timing cache"),
    "capability": (2, ("--compute-capabilities", "9.9"), "builds for no compute capability '9.9'"),
    "workspace": (2, ("--workspace", "1"), "no kernel fits a workspace of 1 MB"),
    "refit": (6, ("--refit",), "did not build a refittable engine here"),
    "strip": (6, ("--strip-weights",), "did not build a refittable engine here"),
    "size": (2, ("--res", "60"), "not a multiple of 32"),
    "backwards": (2, ("--res", "96..64"), "runs backwards"),
}


@pytest.mark.parametrize(("code", "more", "said"), REFUSED.values(), ids=REFUSED)
def test_what_this_library_cannot_do_is_refused_and_nothing_is_written(code, more, said, tmp_path, capsys):
    argv = build_argv(exported("tiny-vit", precision="fp16"), tmp_path / "out", *more)
    assert said in complaint(capsys, code, *argv)
    assert not (tmp_path / "out").exists()


def test_a_static_model_takes_its_own_size_only(tmp_path, capsys):
    artifact = exported("tiny-vit", static=Size(64, 96), opset=20)
    assert "static at 64x96" in complaint(capsys, 2, *build_argv(artifact, tmp_path))


def test_a_machine_without_memory_is_reported_before_the_build(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build_job, "available_memory", lambda: 1000)
    assert "building needs about" in complaint(capsys, 7, *build_argv(exported("tiny-vit"), tmp_path / "out"))


def test_known_defects_are_reported_before_the_build(tmp_path, monkeypatch):
    row = defects.KnownBad("tensorrt_rtx", "everything is wrong", "https://x", "pray", versions=("1",))
    monkeypatch.setattr(defects, "known_bad", lambda: (row,))
    with recording() as reporter:
        build(exported("tiny-vit", precision="fp16"), tmp_path)
    said = reporter.lines
    assert any("everything is wrong (https://x): pray" in line for line in said)


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def stop(phase):
        if phase.done > 2:
            raise KeyboardInterrupt

    with recording(stop) as reporter, pytest.raises(KeyboardInterrupt):
        build(exported("tiny-vit", precision="fp16"), tmp_path / "out")
    assert all(phase.closed for phase in reporter.tasks)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("step", [1, 3])
def test_a_signal_while_the_library_builds_leaves_nothing(step, tmp_path):
    def stop(phase):
        if phase.done == step and signal.getsignal(signal.SIGTERM) is not signal.default_int_handler:
            signal.raise_signal(signal.SIGTERM)

    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with recording(stop), pytest.raises(KeyboardInterrupt):
            build(exported("tiny-vit", precision="fp16"), tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, former)
    assert not (tmp_path / "out").exists()


def test_every_phase_of_a_build_reports_its_progress(tmp_path):
    with recording() as reporter:
        build(exported("tiny-vit", precision="fp16"), tmp_path)
    assert len({phase.name for phase in reporter.tasks}) > 1
    assert all(0 <= done <= steps for phase in reporter.tasks for done, steps, _ in phase.states)
    assert all(phase.closed for phase in reporter.tasks)


# --- an engine where it cannot run ------------------------------------------------------------------------------------

USES = {"verify": ("verify",), "golden": ("verify", "--golden"), "run": ("run", PHOTO)}


@pytest.mark.parametrize("command", USES.values(), ids=USES)
def test_without_a_gpu_an_engine_is_refused_with_code_6(engine, command, capsys, tmp_path, monkeypatch, root):
    monkeypatch.setattr("dpt_deploy.jobs.common.targets.gpu_devices", list)
    monkeypatch.chdir(root)
    argv = [command[0], engine.path, *command[1:], *(["-o", tmp_path / "x.png"] if command[0] == "run" else [])]
    said = complaint_after_talk(capsys, 6, *argv)
    assert "needs an NVIDIA GPU to run; the driver finds none" in said
    assert "without a GPU" in said


@pytest.mark.parametrize("command", USES.values(), ids=USES)
def test_without_the_library_an_engine_is_a_missing_extra(engine, command, capsys, tmp_path, monkeypatch, root):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.chdir(root)
    argv = [command[0], engine.path, *command[1:], *(["-o", tmp_path / "x.png"] if command[0] == "run" else [])]
    assert "pip install -e '.[rtx]'" in complaint_after_talk(capsys, 3, *argv)


def complaint_after_talk(capsys, code, *argv):
    return " ".join(complaint(capsys, code, *argv).split())


@pytest.fixture(scope="module")
def root():
    return ROOT


@pytest.mark.parametrize("command", [*USES.values(), ("inspect",)], ids=[*USES, "inspect"])
def test_a_changed_or_cut_plan_is_refused_before_it_is_deserialised(engine, command, tmp_path, capsys):
    copy = copied(engine, tmp_path / "copy")
    data = bytearray(copy.path.read_bytes())
    data[len(data) // 2] ^= 1
    copy.path.write_bytes(data)
    assert "does not match its sidecar" in complaint(capsys, 4, command[0], copy.path, *command[1:])
    os.truncate(copy.path, 100)
    assert "has 100 bytes" in complaint(capsys, 4, command[0], copy.path, *command[1:])


@pytest.mark.parametrize("command", [("diagnose",), ("build",)], ids=lambda c: c[0])
def test_commands_that_read_a_graph_ask_for_the_model(engine, command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "tiny-vit-fp16.onnx" in complaint(capsys, 4, command[0], engine.path, *command[1:])


def test_runtimes_that_do_not_fit_the_file_are_refused(engine, capsys):
    assert "is an engine" in complaint(capsys, 2, "verify", engine.path, "--golden", "--runtime", "ort")
    model = exported("tiny-vit").path
    assert "dpt-deploy build" in complaint(capsys, 2, "verify", model, "--golden", "--runtime", "trt")


def test_a_size_outside_the_profiles_names_them(engine, capsys):
    said = complaint(capsys, 2, "verify", engine.path, "--res", "96", "--batch", "1")
    assert "64 batch 1; 64 batch 2..3; 64x96 batch 1; 64x96 batch 2..3" in said
