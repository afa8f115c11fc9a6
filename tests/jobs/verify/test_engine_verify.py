"""Audit of an engine by `verify`, with fakes: real plans, and a GPU whose layers and times are made up."""

import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.fake_gpu import Context, freed_at_the_end, install_for
from support.fake_inspector import Inspector, layer
from support.faults.calling import complaint, fine
from support.tiny import copied, exported

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.verify.verify import verify_artifact

pytestmark = pytest.mark.needs("tensorrt_rtx", "torch", "onnxruntime")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A plan as TensorRT-RTX really builds it; leave it as it is."""
    model = exported("tiny-vit", precision="fp16")
    out = tmp_path_factory.mktemp("engine")
    return build_engine_artifact(model.path, out, res=parse_ranges("64..96"), batch=2, library="tensorrt_rtx").artifact


@pytest.fixture
def engine(built, tmp_path):
    return copied(built, tmp_path / "copy")


@pytest.fixture
def trt(built, monkeypatch):
    with freed_at_the_end():
        _, module = install_for(monkeypatch, built.sidecar.engine)
        module.layers[:] = [
            layer("gemm", "product", "Half"),
            layer("kgen", "norm", "Float"),
            layer("Cast", "c", "Half"),
        ]
        module.reported[:] = [("product", 3e-3), ("norm", 1e-3), ("c", 0.5e-3)]
        yield module


def audit_of(engine):
    verify_artifact(engine.path)  # the fake computes something else; the audit stays as it was
    return open_artifact(engine.path).sidecar.engine.audit


def test_the_gate_measures_layers_at_batch_1_of_the_first_profile(engine, trt, capsys):
    audit = audit_of(engine)
    engine_checks.times_of_layers_are_reported(audit)
    assert (audit.method, audit.times.shape) == ("engine", "96 batch 1")
    assert audit.share("fp16") == pytest.approx(0.75)
    assert audit.times.dearest == {"c": pytest.approx(0.5e-3)}
    shown = fine(capsys, "inspect", engine.path)
    assert "fp16 75.0 %, fp32 25.0 % of the computing time" in shown
    assert "c (0.500 ms, 11.1 % of the time)" in shown


def test_a_silent_library_is_audited_by_layers(engine, trt, capsys):
    trt.reported.clear()
    audit = audit_of(engine)
    assert (audit.times, audit.basis) == (None, "layers")
    assert "not measured: the library reports no times of layers" in fine(capsys, "inspect", engine.path)


def test_an_inspector_that_tells_no_types_leaves_the_audit_before_the_build(engine, trt, monkeypatch, capsys):
    before = engine.sidecar.engine.audit
    monkeypatch.setattr(
        Inspector, "execution_context", property(lambda _self: None, lambda _self, _context: None), raising=False
    )
    audit = audit_of(engine)
    assert (audit.method, audit.layers, audit.operations) == ("network", before.layers, before.operations)
    assert "the engine's inspector reports no types of layers" in fine(capsys, "inspect", engine.path)


def test_a_gpu_without_room_for_the_profiler_is_audited_by_layers(engine, trt, monkeypatch):
    monkeypatch.setattr(Context, "execute_async_v3", lambda self, _stream: self.profiler is None)
    audit = audit_of(engine)
    assert (audit.times, audit.untimed) == (None, "TensorRT did not start the run")


def test_an_engine_that_is_fp16_by_layers_and_fp32_by_time_fails_with_code_5(engine, trt, capsys):
    before = open_artifact(engine.path).sidecar
    trt.layers.append(layer("gemm", "more", "Half"))
    trt.reported[:] = [("product", 1e-3), ("norm", 4e-3)]
    said = complaint(capsys, 5, "verify", engine.path, "--res", "64", "--batch", "1")
    assert "is named fp16 but spends 80 % of its time in fp32" in " ".join(said.split())
    assert open_artifact(engine.path).sidecar == before
