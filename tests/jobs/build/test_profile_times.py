"""The times of profiles, measured by a fake clock: the plans are real, the seconds of the runs are made up."""

import json
from functools import partial
from pathlib import Path

import pytest
from support.reporting import recording

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.fake_gpu import GPU, Context, freed_at_the_end, install_over_builder
from support.faults.calling import checked, complaint, fine
from support.faults.handmade import listing
from support.tiny import exported

from dpt_deploy.artifact.records import EngineOptions, EngineRecord
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.decode import decode
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.jobs.build import profile_times
from dpt_deploy.jobs.build import request as engine_request
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.build.profile_times import measure_profiles
from dpt_deploy.measure.timing import TimedCall, alternate, interleave

pytestmark = pytest.mark.needs("tensorrt_rtx", "torch", "onnxruntime")
NARROW = lay_out_profiles(parse_ranges("64,64x96"), 2)
FIRST, SWITCH = 0.5, 0.25


def run_seconds(profile):
    return profile.pixels * 1e-6


@pytest.fixture
def gpu(monkeypatch):
    """A fake CUDA, and the real builder with fake engines."""
    with freed_at_the_end():
        cuda, trt = install_over_builder(monkeypatch, "tensorrt_rtx", NARROW)
        trt.costs.run, trt.costs.first, trt.costs.switch = run_seconds, FIRST, SWITCH
        monkeypatch.setattr(profile_times, "SECONDS", 1e-9)
        yield cuda, trt


def build(out, res="64,64x96", batch=2, **options):
    model = exported("tiny-vit", precision="fp16")
    options = {"library": "tensorrt_rtx", **options}
    return build_engine_artifact(model.path, out, res=parse_ranges(res), batch=batch, **options)


def argv(out, *more, res="64,64x96"):
    model = exported("tiny-vit", precision="fp16").path
    return ["build", model, "--res", res, "--batch", "2", "--library", "tensorrt_rtx", "-o", out, *more]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_first_steady_and_switching_runs_are_distinguished(gpu, tmp_path):
    cuda, _ = gpu
    artifact = build(tmp_path / "out", measure=False).artifact
    times = measure_profiles(artifact, clock=cuda.clock)
    assert [time.profile for time in times] == list(NARROW)
    for time in times:
        seconds = run_seconds(time.profile)
        assert time.first == pytest.approx(FIRST + seconds)
        assert time.steady == pytest.approx((seconds,) * 3)
        assert time.switch == pytest.approx(SWITCH)
    assert (cuda.held, cuda.graphs, cuda.streams) == ({}, {}, set())


def test_a_build_measures_its_engine_and_records_the_times(gpu, tmp_path, monkeypatch):
    cuda, _ = gpu
    monkeypatch.setattr(profile_times, "measure_profiles", partial(measure_profiles, clock=cuda.clock))
    with recording() as reporter:
        building = build(tmp_path / "out")
    record = open_artifact(building.artifact.path).sidecar.engine
    assert record.measured_on == GPU
    engine_checks.profiles_are_measured(record, reporter.lines)


def test_one_profile_alone_has_no_switch(gpu, tmp_path):
    cuda, _ = gpu
    artifact = build(tmp_path / "out", "64", 1, measure=False).artifact
    (time,) = measure_profiles(artifact, clock=cuda.clock)
    assert (time.switch, time.first) == (None, pytest.approx(FIRST + run_seconds(NARROW[0])))


def test_a_clock_that_is_given_is_the_one_that_is_read():
    now = [0.0]

    def taking(seconds):
        return TimedCall(lambda: now.__setitem__(0, now[0] + seconds), lambda: None)

    one, two = taking(1.0), taking(2.0)
    session = interleave({"one": one, "two": two}, seconds=9.5, clock=lambda: now[0])
    assert (session.rounds, session.seconds) == (4, 12.0)
    assert set(session.timings["two"].seconds) == {2.0}
    assert list(alternate(one, two, rounds=3, clock=lambda: now[0]).seconds) == [1.0] * 3


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_measures_where_a_gpu_is_and_inspect_shows_it(gpu, tmp_path, capsys):
    out = fine(capsys, *argv(tmp_path / "out"))
    assert "profiles (measured on Fake)" in out
    assert "activations (predicted)" in out
    shown = fine(capsys, "inspect", tmp_path / "out/tiny-vit-fp16.plan")
    assert "profiles (measured on Fake)" in shown
    assert "64x96 batch 2" in shown


def test_json_carries_the_times(gpu, tmp_path, capsys):
    found = json.loads(fine(capsys, *argv(tmp_path / "out", "--json")))
    assert found["measured_on"] == str(GPU)
    for row in found["profiles"]:
        assert set(row["measured"]) == {"first_seconds", "steady_seconds", "switch_seconds"}


def test_what_was_measured_is_kept_and_what_was_not_is_added(gpu, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert build(out, measure=False).artifact.sidecar.engine.profile_times == ()
    added = build(out)
    assert (added.fresh, len(added.artifact.sidecar.engine.profile_times)) == (False, len(NARROW))
    monkeypatch.setattr(profile_times, "measure_profiles", None)  # calling it would be a TypeError
    assert build(out).artifact.sidecar == added.artifact.sidecar
    assert build(out, measure=True).artifact.sidecar == added.artifact.sidecar


def test_without_a_gpu_costs_are_predicted_and_that_is_reported(gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine_request, "gpu_devices", list)
    with recording() as reporter:
        building = build(tmp_path / "out")
    said = reporter.lines
    assert building.artifact.sidecar.engine.profile_times == ()
    assert "profiles: predicted only; the driver finds no NVIDIA GPU to measure them on" in said
    out = fine(capsys, *argv(tmp_path / "out"))
    assert "profiles (predicted)" in out
    found = json.loads(fine(capsys, *argv(tmp_path / "out", "--json")))
    assert (found["measured_on"], [row["measured"] for row in found["profiles"]]) == (None, [None] * len(NARROW))


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_measurement_that_fails_leaves_the_engine_and_says_why(gpu, tmp_path, monkeypatch):
    cuda, _ = gpu
    monkeypatch.setattr(Context, "execute_async_v3", lambda *_: False)
    with recording() as reporter:
        building = build(tmp_path / "out", measure=True)
    said = reporter.lines
    assert open_artifact(building.artifact.path).sidecar == building.artifact.sidecar
    assert building.artifact.sidecar.engine.profile_times == ()
    assert said[-1] == "profiles were not measured: TensorRT did not start the run"
    assert building.to_dict()["not_measured"] == "TensorRT did not start the run"
    assert cuda.held == {}


@pytest.mark.parametrize(("asked", "code"), [(("--measure",), 7), ((), 0)])
def test_the_command_fails_where_what_was_asked_for_by_name_could_not_be_measured(
    asked, code, gpu, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Context, "execute_async_v3", lambda *_: False)
    found = call([str(arg) for arg in argv(tmp_path / "out", *asked)])
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith("tiny-vit-fp16.plan")
    assert Path(out.splitlines()[-1]).is_file()
    assert found == code, err
    if code:
        assert "error: TensorRT did not start the run" in checked(found, code, err)


def test_a_gpu_that_cannot_run_the_engine_is_reported(gpu, tmp_path):
    with recording() as reporter:
        building = build(tmp_path / "out", options=EngineOptions(compute_capabilities=("12.0",)))
    said = reporter.lines
    assert building.artifact.sidecar.engine.profile_times == ()
    assert any("profiles were not measured: this plan was built" in line for line in said)


REFUSED = {
    "no weights": (2, ("--measure", "--strip-weights"), "64", "an engine without its weights cannot run"),
    "no GPU": (6, ("--measure",), "64", "profiles are measured on an NVIDIA GPU; the driver finds none"),
}


@pytest.mark.parametrize(("code", "more", "res", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(
    code, more, res, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(engine_request, "gpu_devices", list)
    assert said in " ".join(complaint(capsys, code, *argv(tmp_path / "out", *more, res=res)).split())
    assert not listing(tmp_path)


def test_sidecars_from_before_times_still_load(gpu, tmp_path):
    sidecar = json.loads(build(tmp_path / "out", measure=False).artifact.sidecar.to_json())
    old = {name: value for name, value in sidecar["engine"].items() if name not in ("profile_times", "measured_on")}
    assert decode(EngineRecord, old) == decode(EngineRecord, sidecar["engine"])
