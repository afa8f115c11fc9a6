"""The kit for GPU machines, run as on such a machine: killed, damaged and cut short."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict

import pytest
from support import kit as fake

from dpt_deploy.artifact.records import LayerTimes
from dpt_deploy.core.profile import Profile, ProfileTime
from dpt_deploy.report.benchmark_page import KINDS
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.skipif(not shutil.which("timeout"), reason="run.sh needs bash and coreutils")
DONE = ["unpack", "machine", "export-tiny-fp16", "bench-tiny-fp16", "verify-onnx-tiny"]
NOT_RUN = ["probe", "build-tiny-fp16", "verify-tiny-fp16", "frames-tiny-fp16", "compiled-tiny-fp16"]
NOT_RUN += ["profiles-tiny-fp16", "native-tiny-fp16", "tests", "networks"]


@pytest.fixture
def machine(packed, tmp_path):
    """A machine that the kit was copied to: ``run(…)``, the folder of the kit, of the work, and of the results."""
    kit = tmp_path / "kit"
    shutil.copytree(packed, kit)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")  # as where there is a driver and no GPU
    (tools / "nvidia-smi").chmod(0o755)
    work = kit / "kit-work"
    (work / "tell").mkdir(parents=True)
    return Machine(kit, work, kit / "kit-results", {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})


class Machine:
    def __init__(self, kit, work, results, environment):
        self.kit, self.work, self.results, self.environment = kit, work, results, environment

    def start(self, *arguments):
        command = ["bash", self.kit / "run.sh", "--quick", "--python", sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(list(map(str, command)), env=self.environment, **pipes)

    def run(self, *arguments):
        with self.start(*arguments) as started:
            said = started.communicate(timeout=120)[0]
        return started.returncode, said

    def status(self, name):
        path = self.results / "steps" / f"{name}.status"
        return path.read_text().rstrip("\n").split("\t") if path.exists() else []

    def calls(self):
        log = self.work / "calls.log"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def pretend_done(self, *names):
        """So that a run has less to do."""
        (self.results / "steps").mkdir(parents=True, exist_ok=True)
        for name in names:
            (self.results / "steps" / f"{name}.status").write_text("done\t0\t\n")

    @property
    def report(self):
        return (self.results / "REPORT.md").read_text()


# --- a run ------------------------------------------------------------------------------------------------------------


def test_without_a_gpu_what_can_be_done_is_done_and_the_rest_says_why(machine):
    code, said = machine.run()
    assert code == 0, said
    assert [name for name in [*DONE, *NOT_RUN] if machine.status(name)[0] == "done"] == DONE
    assert all("no NVIDIA GPU" in machine.status(name)[2] for name in ("probe", "tests", "networks"))
    assert machine.status("verify-tiny-fp16")[2] == "tiny-fp16.plan was not built"
    assert machine.calls() == ["doctor", "export", "bench", "verify"]
    probe = json.loads((machine.results / "probe.json").read_text())
    assert [(entry["library"], entry["version"], entry["reached"]) for entry in probe["tried"]][1:] == [
        ("tensorrt_rtx", fake.VERSION, "import")
    ]
    assert "AttributeError: module 'tensorrt_rtx' has no attribute" in probe["tried"][1]["error"]
    assert "**TensorRT not measured.**" in machine.report
    assert "says nothing about a GPU" in machine.report
    assert "| 384 | 1 | ort | 2.000 |" in machine.report
    machine.pretend_done("probe", "tests", "networks")  # which would be tried again
    code, said = machine.run()
    assert [line for line in said.splitlines() if "done before" in line and line.partition(":")[0] in DONE] == [
        f"{name}: done before" for name in DONE
    ]
    assert machine.calls() == ["doctor", "export", "bench", "verify"]


def test_the_kits_wheels_are_used_where_the_machine_has_none(machine):
    machine.run("unpack")
    used = json.loads((machine.results / "packages.json").read_text())
    assert used == {"fake": "1.0 (the kit's)", "other": "2.0 (the kit's)"}
    assert (machine.work / "site/fake.py").read_text() == "x = 1\n"


def test_a_named_step_is_repeated(machine):
    for _ in range(2):
        machine.run("unpack", "export-tiny-fp16")
    assert machine.calls() == ["export", "export"]
    assert machine.run("exprot") == (2, "error: no step exprot; see run.sh --list\n")


def test_a_run_that_was_killed_goes_on_where_it_was(machine):
    (machine.work / "tell/export").write_text("hang")
    machine.pretend_done(*{*DONE, *NOT_RUN} - {"unpack", "machine", "export-tiny-fp16"})
    started = machine.start()
    while "export" not in machine.calls():
        time.sleep(0.05)
        assert started.poll() is None
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=30)
    assert started.returncode == 130
    assert (machine.status("machine")[0], machine.status("export-tiny-fp16")) == ("done", [])
    (machine.work / "tell/export").unlink()
    code, said = machine.run()
    assert code == 0, said  # and not «another run works», for the step went with its run
    assert machine.status("export-tiny-fp16")[0] == "done"
    assert machine.calls().count("doctor") == 1


def test_two_runs_do_not_work_in_one_folder(machine):
    (machine.work / "tell/export").write_text("hang")
    started = machine.start("unpack", "export-tiny-fp16")
    while "export" not in machine.calls():
        time.sleep(0.05)
    code, said = machine.run()
    started.terminate()
    started.communicate(timeout=30)
    assert code == 2
    assert "another run works in" in said


def test_a_step_that_hangs_is_ended_and_the_others_run(machine):
    (machine.work / "tell/export").write_text("hang")
    machine.run("unpack")
    code, _ = machine.run("--limit", "4", "export-tiny-fp16", "bench-tiny-fp16")
    assert code == 0
    assert machine.status("export-tiny-fp16")[::2] == ["timed out", "its limit was 4 s"]
    assert machine.status("bench-tiny-fp16")[2] == "tiny-fp16.onnx was not exported"


def test_a_step_that_fails_is_reported_and_the_others_run(machine):
    (machine.work / "tell/verify").write_text("5")
    code, said = machine.run("unpack", "export-tiny-fp16", "verify-onnx-tiny", "build-tiny-fp16")
    assert code == 1
    assert machine.status("verify-onnx-tiny")[0] == "failed"
    assert re.search(r"verify-onnx-tiny: failed after \d+ s: exit code 1 from", said)
    assert machine.status("export-tiny-fp16")[0] == "done"


def test_where_no_time_is_left_steps_wait_for_the_next_run(machine, monkeypatch):
    script = machine.kit / "run.sh"
    script.write_text(script.read_text().replace("deadline=$((SECONDS + 60 * minutes))", "deadline=$((SECONDS + 30))"))
    machine.run()
    assert machine.status("unpack")[:2] == ["not run", "0"]
    assert "no time left of 25 minutes" in machine.status("unpack")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "many"], "--minutes many is not a whole number of minutes"),
        (["--limit", "0"], "--limit 0 is not a whole number of seconds"),
        (["--quik"], "unknown option --quik"),
        (["--work"], "--work needs a value"),
        (["--python", "no-such-python"], "no-such-python was not found"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_call_is_refused(machine, arguments, said):
    code, found = machine.run(*arguments)
    assert code == 2
    assert f"error: {said}" in found


def test_long_logs_are_cut_and_results_stay_small(modules, machine):
    machine.pretend_done("probe")
    log = machine.results / "steps/probe.log"
    log.write_bytes(b"x" * 400_000 + b"the end")
    place = modules["work"].Place(machine.kit, machine.work, machine.results, quick=True)
    sys.modules["report"].write_report(place, [])
    assert log.stat().st_size < 200_000
    assert log.read_text().endswith("the end")
    (machine.results / "large.json").write_bytes(b"x" * 16_000_000)
    with pytest.raises(SystemExit, match=r"has 16\.\d MB; expected less than 15"):
        sys.modules["report"].write_report(place, [])


@pytest.mark.parametrize("engine", [True, False], ids=["engine", "none"])
def test_figures_are_held_to_what_was_measured_and_a_substitute_keeps_its_name(modules, machine, engine):
    place = modules["work"].Place(machine.kit, machine.work, machine.results)
    (machine.results / "steps").mkdir(parents=True)
    for folder in ("compiled", "frames"):
        (machine.results / folder).mkdir()
    ours = {"trt-device": 1.5} if engine else {}
    rest = {"size": "384", "batch": 1, "interval_ms": [1.0, 2.0], "p99_ms": 3.0, "images_per_second": 1.0}
    for file, times in (
        ("latency-x.json", {"torch-device": 4.5, "ort": 5.0} | ours | ({"trt-enqueue-device": 1.2} if engine else {})),
        ("compiled/latency-x.json", {"torch-compile-device": 3.0} | ours),
    ):
        rows = [{**rest, "contender": name, "p50_ms": value} for name, value in times.items()]
        result = {"model": "large-fp16", "weights": "random", "protocol": "x", "rows": rows}
        (machine.results / file).write_text(json.dumps(result))
    if engine:
        for precision, time in (("fp16", 20.0), ("int8", 21.0)):
            row = {**rest, "batch": 16, "contender": "trt-device", "p50_ms": time, "share_of_ceiling": 0.61}
            of_16 = {**result, "model": f"large-{precision}", "rows": [row]}
            (machine.results / f"latency-{precision}.json").write_text(json.dumps(of_16))
        times = {"trt-device": 2.0, "trt-frame": 4.0, "trt-frames": 2.1}
        rows = [{**rest, "size": "384x672", "contender": name, "p50_ms": value} for name, value in times.items()]
        rows[1]["parts_ms"] = {"upload": 0.5, "model": 2.0}
        (machine.results / "frames/latency-x.json").write_text(json.dumps({**result, "rows": rows}))
    place.write("probe.json", {"gpu": "Some GPU", "runs": engine, "tried": []})
    sys.modules["report"].write_report(place, [])
    assert machine.report.startswith("# GPU kit on Some GPU\n")
    if engine:
        assert "| large | at most 1.6 ms | 1.500 ms |" in machine.report
        assert "| large | torch-compile-device at least 1.5 times slower | 2.00 |" in machine.report
        assert "| large | the runner at most 2% over the bare enqueue | 25.0% |" in machine.report
        assert "| large | full HD frames, overlapping, at most 5% over the network alone | 5.0% |" in machine.report
        assert "| large | batch 16 at least 60% of the measured matrix ceiling | 61% |" in machine.report
        assert "| large | 384 | 16 | fp16 20.000, int8 21.000 |" in machine.report
        assert "Parts of trt-frame at 384x672, each alone, in ms: upload 0.500, model 2.000." in machine.report
        assert "not measured" not in machine.report
    else:
        instead = "ort 5.000 ms, torch-compile-device 3.000 ms"
        assert f"| large | at most 1.6 ms | TensorRT not measured; {instead} |" in machine.report
        assert "| large | torch-device at least 3.0 times slower | TensorRT not measured |" in machine.report
        assert "**TensorRT not measured.**" in machine.report


def test_profiles_and_the_time_of_layers_are_shown(modules, machine):
    """The documents are those that `build --json` and `inspect --json` write."""
    place = modules["work"].Place(machine.kit, machine.work, machine.results)
    (machine.results / "steps").mkdir(parents=True)
    profile = Profile((1, 64, 64), (1, 64, 64), (1, 64, 64))
    measured = ProfileTime(profile, 0.5, (0.002, 0.0019, 0.0021), 0.001).to_dict()
    rows = [{"profile": str(profile), "measured": measured}, {"profile": "another", "measured": None}]
    place.write("profiles-tiny-fp16.json", {"profiles": rows})
    times = asdict(LayerTimes("64", {"fp32": 0.001, "fp16": 0.004}, casts=0.0005, attention=0.002))
    for name, audit in (("fp16", {"times": times}), ("int8", {"times": None, "untimed": "no layer was reported"})):
        place.write(f"audit-tiny-{name}.json", {"sidecar": {"engine": {"audit": audit}}})
    sys.modules["report"].write_report(place, [])
    assert "| 64 batch 1 | 500.000 | 2.000 | 1.900 to 2.100 | +1.000 |" in machine.report
    assert "| another |" not in machine.report
    assert "| tiny-fp16 | fp16 4.000, fp32 1.000 | 0.500 | 0.000 | 2.000 |" in machine.report
    assert "| tiny-int8 | no layer was reported |" in machine.report


@pytest.mark.parametrize("engine", [True, False], ids=["engine", "none"])
@pytest.mark.parametrize("ort", [True, False], ids=["ort", "cpu"])
def test_what_is_timed_on_a_gpu(modules, machine, monkeypatch, engine, ort):
    """The calls that a machine with a GPU would make, without making them."""
    models, calls = modules["models"], []
    case = models.Case("large", "fp16")
    place = modules["work"].Place(machine.kit, machine.work, machine.results)
    place.models.mkdir()
    (machine.results).mkdir(parents=True)
    for suffix in ("onnx", "plan") if engine else ("onnx",):
        (place.models / f"large-fp16.{suffix}").touch()
    place.write("probe.json", {"gpu": "Some GPU", "runs": engine, "library": "tensorrt_rtx"})
    monkeypatch.setattr(models, "gpu", lambda: "Some GPU")
    monkeypatch.setattr(modules["work"], "gpu", lambda: "Some GPU")
    monkeypatch.setattr(type(place), "call", lambda *_args, **_options: str(ort))
    monkeypatch.setattr(type(place), "deploy", lambda _place, *argv, **_options: calls.append(list(map(str, argv))))
    models.bench(place, case)
    models.compiled(place, case)
    if engine:
        with pytest.raises(modules["work"].NotPossibleError, match="pack the kit with --native FOLDER"):
            models.native(place, case)
        models.frames(place, case)
        for measured in ({"first_seconds": 1.0}, None):
            place.write("profiles-large-fp16.json", {"profiles": [{"profile": "x", "measured": measured}]})
            with nullcontext() if measured else pytest.raises(modules["work"].StepError, match="were not measured"):
                models.profiles(place, case)
            assert "--measure" in calls.pop()
        full = calls.pop()
        assert full[full.index("--runtime") + 1] == "trt-device,trt-frame,trt-frames"
        assert full[full.index("--res") + 1] == "384x672"
    else:
        for step in (models.frames, models.profiles):
            with pytest.raises(modules["work"].NotPossibleError, match=r"large-fp16\.plan was not built"):
                step(place, case)
    (interleaved, compiled), suffix = calls, "plan" if engine else "onnx"
    ours = ["trt", "trt-device", "trt-enqueue-device"] if engine else []
    assert interleaved[3].split(",") == [*ours, "torch", "torch-device", *(["ort"] if ort else [])]
    assert compiled[3].split(",") == [*ours[1:2], "torch-compile-device"]
    assert all(call[1].endswith(f"large-fp16.{suffix}") for call in calls)
    assert all(("--device" in call) != engine for call in calls)
    assert compiled[-1] != interleaved[-1]  # results of the same name must not meet


def test_an_engine_is_compared_and_timed_in_the_cpp_library(modules, machine, monkeypatch):
    models, calls = modules["models"], []
    place = modules["work"].Place(machine.kit, machine.work, machine.results)
    machine.results.mkdir(parents=True)
    place.models.mkdir()
    (place.models / "large-fp16.plan").touch()
    place.native.mkdir(parents=True)
    program = place.native / "dpt_bench"
    program.write_text('#!/bin/sh\necho "[{\\"library\\": \\"$DPT_DEPLOY_LIBRARY\\"}]"\n')
    program.chmod(0o755)
    place.write("probe.json", {"gpu": "Some GPU", "runs": True, "library": "tensorrt_rtx", "folder": str(place.work)})
    monkeypatch.setattr(models, "need_gpu", lambda: None)
    monkeypatch.setattr(type(place), "deploy", lambda _place, *argv, **_options: calls.append(list(map(str, argv))))
    models.native(place, models.Case("large", "fp16"))
    assert [call[:1] + call[2:4] for call in calls] == [["verify", "--runtime", "native"]]
    assert place.read("native-large-fp16.json") == {"rows": [{"library": str(place.native / "libdpt.so")}]}


def test_the_summary_is_what_the_report_of_the_benchmarks_shows(modules, machine):
    place = modules["work"].Place(machine.kit, machine.work, machine.results)
    machine.results.mkdir(parents=True)
    case = {"passed": True, "size": "518", "batch": 1, "max": 0.01, "mean": 0.001}
    verified = {"runtime": "trt", "weights": "random, seed 0", "tolerance": {"max": 0.02, "mean": 0.005}}
    worse = {**case, "batch": 8, "max": 0.03, "passed": False}
    place.write("verify-x-fp16.json", {**verified, "cases": [case, worse]})
    place.write("verify-native-x-fp16.json", {**verified, "runtime": "native", "cases": [case]})
    times = {"shape": "518 batch 1", "precision": {"fp16": 0.001}, "attention": 0.0005}
    place.write("audit-x-fp16.json", {"sidecar": {"engine": {"audit": {"times": times}}}})
    part = {"p50": 1.0}
    row = {"size": "518x518", "frames": 3, "first_ms": 9.0}
    parts = {f"{name}_ms": part for name in ("total", "prepare", "model", "finish")}
    place.write("native-x-fp16.json", {"rows": [{**row, **parts}]})
    place.write("torch.json", {"version": "2.99"})
    environment = {"processor": "P", "cores": 1, "gpus": ["G"], "tools": {}}
    place.write("machine.json", {"environment": environment})
    tried = [{"library": "tensorrt_rtx", "version": "1", "reached": "compare", "messages": [], "folder": "/x"}]
    place.write("probe.json", {"gpu": "G", "library": "tensorrt_rtx", "version": "1", "tried": tried})
    found = sys.modules["report"].summary(place)
    assert "folder" not in found["tried"][0]
    assert [(each["model"], each["runtime"], each["passed"], each["max"]) for each in found["verified"]] == [
        ("x-fp16", "native", True, 0.01),
        ("x-fp16", "trt", False, 0.03),
    ]
    text = KINDS["gpu"].show(Result("gpu-x.json", found), "results")
    assert "518 batch 1; 518 batch 8 | fails | 3.0e-02 | 1.0e-03 | 2.0e-02, 5.0e-03 | 518 batch 1: fp16 1.00 ms" in text


# --- what arrives -----------------------------------------------------------------------------------------------------


DAMAGE = {
    "damaged": (fake.damaged, "is damaged: its SHA-256 is not that of manifest.json"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "cut": (lambda path: os.truncate(path, 10), "has 10 bytes, not"),
}


@pytest.mark.parametrize(("harm", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_part_that_did_not_arrive_whole_is_named(machine, modules, packed, harm, said):
    split(modules, machine.kit, packed)
    harm(machine.kit / "wheels.tar.xz.01")
    code, found = machine.run()
    assert code == 1
    assert re.search(rf"unpack: failed after \d+ s: wheels\.tar\.xz\.01 {said}", found)
    assert machine.calls() == []  # nothing else was tried
    assert "| unpack | failed |" in machine.report


def split(modules, kit, packed):
    """Pack the wheels of the kit again, in parts so small that they take several."""
    pack, archives = modules["pack"], modules["archives"]
    manifest = archives.read_manifest(packed)
    folders = {}
    for name in ("one", "two"):
        folder = kit.with_name(name)
        folder.mkdir()
        (folder / f"{name}.py").write_bytes(os.urandom(3000))
        folders[f"{name}-1.0"] = folder
    group = archives.write_group(kit, pack.WHEELS, folders, {}, limit=2000, preset=0)
    assert len(group.parts) > 2
    kept = [group if each.name == pack.WHEELS else each for each in manifest.groups]
    archives.write_manifest(kit, archives.Manifest(manifest.python, manifest.product, tuple(kept)))
    return folders


def test_parts_may_lie_in_folders_next_to_the_kit(machine, modules, packed):
    split(modules, machine.kit, packed)
    later = machine.kit.with_name("kit.1")
    later.mkdir()
    for path in [*machine.kit.glob("wheels.tar.xz.0[1-9]"), *machine.kit.glob("tensorrt*")]:
        path.rename(later / path.name)
    assert machine.run("unpack")[0] == 0
    assert "not copied to this machine: nothing" in (machine.results / "steps/unpack.log").read_text()
    (later / "wheels.tar.xz.02").unlink()
    code, found = machine.run("unpack")
    assert (code, "wheels.tar.xz.02 is missing" in found) == (1, True)


def test_a_group_may_stay_behind_but_not_the_source(machine):
    for path in machine.kit.glob("tensorrt*"):
        path.unlink()
    assert machine.run("unpack")[0] == 0
    assert "not copied to this machine: tensorrt-rtx-9.9.9.9" in (machine.results / "steps/unpack.log").read_text()
    for path in machine.kit.glob("source*"):
        path.unlink()
    code, said = machine.run("unpack")
    assert (code, "source and wheels are needed in any case" in said) == (1, True)


def test_another_python_is_refused(machine):
    path = machine.kit / "manifest.json"
    path.write_text(path.read_text().replace(f"cp{fake.PYTHON.replace('.', '')}", "cp399"))
    code, said = machine.run()
    assert code == 2
    assert re.search(r"this kit is for Python 3\.99 \(cp399\); .* is cp3\d+: name another with run\.sh --python", said)
    assert machine.calls() == []


@pytest.mark.parametrize(
    ("text", "said"), [(None, "is no kit"), ("{", "cannot be read"), ('{"format": 9}', "format 9")]
)
def test_what_is_no_kit_is_refused(machine, text, said):
    path = machine.kit / "manifest.json"
    path.write_text(text) if text else path.write_text("")
    if text is None:
        path.unlink()
    code, found = machine.run("--work", machine.work, "--results", machine.results)
    assert code == 2
    assert said in found


def test_another_kit_than_last_time_is_unpacked_again(machine):
    machine.pretend_done(*DONE[1:], *NOT_RUN)
    machine.run("unpack")
    assert "unpack: done before" in machine.run()[1]
    path = machine.kit / "manifest.json"
    path.write_text(path.read_text() + "\n")
    assert "unpack: done after" in machine.run()[1]
