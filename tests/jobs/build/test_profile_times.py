"""What profiles cost, measured by the stand-in's clock: real plans, runs whose seconds are made up."""

import json
from pathlib import Path

import pytest
from support.reporting import recording

pytest.importorskip("cuda.bindings", reason="cuda-python is not installed: pip install -e '.[trt]'")

from support import engine_checks
from support.fake_gpu import GPU, Context, free_the_rest, install_over_builder
from support.faults.calling import checked, complaint, fine
from support.faults.handmade import listing
from support.tiny import exported

from dpt_deploy.artifact.records import EngineOptions, EngineRecord
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.decode import decode
from dpt_deploy.core.profile import Profile, parse_ranges
from dpt_deploy.engine.profiles import plan_profiles, wide_profile
from dpt_deploy.jobs.build import build as workflow
from dpt_deploy.jobs.build import order as engine_order
from dpt_deploy.jobs.build import profile_times
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.build.profile_times import measure_profiles
from dpt_deploy.measure.timing import Contender, alternate, interleave

pytestmark = pytest.mark.needs("tensorrt_rtx", "torch", "onnxruntime")
NARROW = plan_profiles(parse_ranges("64,64x96"), 2)
WIDE = wide_profile(NARROW)
FIRST, SWITCH = 0.5, 0.25


def run_seconds(profile):
    return profile.pixels * 1e-6


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """The stand-ins; what is in ``out`` has narrow profiles, everything else has the wide one."""
    target = tmp_path / "out/tiny-vit-fp16.plan"

    def profiles(plan):
        return NARROW if target.read_bytes() == plan else (WIDE,)

    cuda, trt = install_over_builder(monkeypatch, "tensorrt_rtx", profiles)
    trt.costs.run, trt.costs.first, trt.costs.switch = run_seconds, FIRST, SWITCH
    monkeypatch.setattr(profile_times, "SECONDS", 1e-9)
    yield cuda, trt
    free_the_rest()


def build(out, res="64,64x96", batch=2, **options):
    model = exported("tiny-vit", precision="fp16")
    options = {"library": "tensorrt_rtx", **options}
    return build_engine_artifact(model.path, out, res=parse_ranges(res), batch=batch, **options)


def argv(out, *more, res="64,64x96"):
    model = exported("tiny-vit", precision="fp16").path
    return ["build", model, "--res", res, "--batch", "2", "--library", "tensorrt_rtx", "-o", out, *more]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_first_steady_and_switching_runs_are_told_apart(gpu, tmp_path):
    cuda, _ = gpu
    artifact = build(tmp_path / "out", measure=False).artifact
    times = measure_profiles(artifact, clock=cuda.clock)
    assert [time.profile for time in times] == list(NARROW)
    for time in times:
        seconds = run_seconds(time.profile)
        assert time.first == pytest.approx(FIRST + seconds)
        assert time.steady == pytest.approx((seconds,) * 3)
        assert time.switch == pytest.approx(SWITCH)
        assert time.wide is None
    assert (cuda.held, cuda.graphs, cuda.streams) == ({}, {}, set())


def test_one_profile_alone_has_no_switch(gpu, tmp_path):
    cuda, _ = gpu
    artifact = build(tmp_path / "out", "64", 1, measure=False).artifact
    (time,) = measure_profiles(artifact, clock=cuda.clock)
    assert (time.switch, time.first) == (None, pytest.approx(FIRST + run_seconds(NARROW[0])))


def test_a_wide_engine_is_built_alike_and_timed_by_turns(gpu, tmp_path, monkeypatch):
    cuda, _ = gpu

    def timed(*where, **_options):
        return measure_profiles(*where, clock=cuda.clock)

    monkeypatch.setattr(profile_times, "measure_profiles", timed)
    with recording() as reporter:
        building = build(tmp_path / "out", against_wide=True)
    said = reporter.lines
    record = open_artifact(building.artifact.path).sidecar.engine
    for time in record.profile_times:
        assert time.wide == pytest.approx((run_seconds(WIDE) / run_seconds(time.profile),) * 3)
    assert record.measured_on == GPU
    engine_checks.profiles_are_measured(record, said, wide=True)
    assert [line for line in said if str(WIDE) in line]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"tiny-vit-fp16.plan{end}" for end in ("", ".json", ".golden.npz")
    }


def test_the_wide_profile_is_around_all_and_tuned_for_its_largest_shape():
    assert Profile((1, 64, 64), (2, 64, 96), (2, 64, 96)) == WIDE
    tall = plan_profiles(parse_ranges("96x64,64x96"), 3)
    assert wide_profile(tall) == Profile((1, 64, 64), (3, 96, 96), (3, 96, 96))


def test_a_clock_that_is_given_is_the_one_that_is_read():
    now = [0.0]

    def taking(seconds):
        return Contender(lambda: now.__setitem__(0, now[0] + seconds), lambda: None)

    one, two = taking(1.0), taking(2.0)
    session = interleave({"one": one, "two": two}, seconds=9.5, clock=lambda: now[0])
    assert (session.rounds, session.seconds) == (4, 12.0)
    assert set(session.timings["two"].seconds) == {2.0}
    assert list(alternate(one, two, rounds=3, clock=lambda: now[0]).seconds) == [1.0] * 3


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_measures_where_a_gpu_is_and_inspect_shows_it(gpu, tmp_path, capsys):
    out = fine(capsys, *argv(tmp_path / "out"))
    assert "profiles (measured on Stand-in)" in out
    assert "activations (predicted)" in out
    shown = fine(capsys, "inspect", tmp_path / "out/tiny-vit-fp16.plan")
    assert "profiles (measured on Stand-in)" in shown
    assert "64x96 batch 2" in shown


def test_json_carries_the_times(gpu, tmp_path, capsys):
    found = json.loads(fine(capsys, *argv(tmp_path / "out", "--against-wide", "--json")))
    assert found["measured_on"] == str(GPU)
    for row in found["profiles"]:
        assert set(row["measured"]) == {"first_seconds", "steady_seconds", "switch_seconds", "wide_times_as_long"}
        assert len(row["measured"]["wide_times_as_long"]) == 3


def test_what_was_measured_is_kept_and_what_was_not_is_added(gpu, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert build(out, measure=False).artifact.sidecar.engine.profile_times == ()
    added = build(out)
    assert (added.fresh, len(added.artifact.sidecar.engine.profile_times)) == (False, len(NARROW))
    monkeypatch.setattr(profile_times, "measure_profiles", None)  # calling it would be a TypeError
    assert build(out).artifact.sidecar == added.artifact.sidecar
    assert build(out, measure=True).artifact.sidecar == added.artifact.sidecar


def test_without_a_gpu_costs_are_predicted_and_that_is_said(gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine_order, "gpu_devices", list)
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


@pytest.mark.parametrize(("asked", "code"), [(("--measure",), 7), (("--against-wide",), 7), ((), 0)])
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


def test_a_gpu_that_cannot_run_the_engine_is_said(gpu, tmp_path):
    with recording() as reporter:
        building = build(tmp_path / "out", options=EngineOptions(compute_capabilities=("12.0",)))
    said = reporter.lines
    assert building.artifact.sidecar.engine.profile_times == ()
    assert any("profiles were not measured: this plan was built" in line for line in said)


def test_without_room_for_the_wide_engine_the_narrow_one_is_measured_alone(gpu, tmp_path, monkeypatch):
    preflight = workflow._preflight

    def small(order):
        preflight(order)
        if order.profiles == (WIDE,):
            raise workflow.ResourceError("out of memory")

    monkeypatch.setattr(workflow, "_preflight", small)
    with recording() as reporter:
        times = build(tmp_path / "out", against_wide=True).artifact.sidecar.engine.profile_times
    said = reporter.lines
    assert [time.wide for time in times] == [None] * len(NARROW)
    assert "profiles were not measured beside a wide one: out of memory" in said


REFUSED = {
    "no GPU": (6, ("--measure",), "64", "profiles are measured on an NVIDIA GPU; the driver finds none"),
    "wide, no GPU": (6, ("--against-wide",), "64", "the driver finds none"),
    "wide, one profile": (2, ("--against-wide", "--batch", "1"), "64", "has one profile, 64 batch 1"),
    "wide, unmeasured": (2, ("--against-wide", "--no-measure"), "64", "is built to be measured"),
}


@pytest.mark.parametrize(("code", "more", "res", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(
    code, more, res, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(engine_order, "gpu_devices", list)
    assert said in " ".join(complaint(capsys, code, *argv(tmp_path / "out", *more, res=res)).split())
    assert not listing(tmp_path)


def test_sidecars_from_before_times_still_load(gpu, tmp_path):
    sidecar = json.loads(build(tmp_path / "out", measure=False).artifact.sidecar.to_json())
    old = {name: value for name, value in sidecar["engine"].items() if name not in ("profile_times", "measured_on")}
    assert decode(EngineRecord, old) == decode(EngineRecord, sidecar["engine"])
