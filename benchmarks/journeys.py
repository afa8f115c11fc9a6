"""Count the files of the package that each main job enters, on the model ``tiny``.

Usage: python benchmarks/journeys.py [JOURNEY …]      (default: all)

A file is entered when one of its functions or class bodies runs. Class bodies run at import: files that are entered by
these alone only declare something. Each job runs through the command line, in a process of its own. With --files the
files are listed. Run it before and after a change of structure: the fewer files a job enters, the shorter the way that
a reader has to follow. It says nothing about time.
"""

import hashlib
import inspect
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import onnx
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(ROOT / "dpt_deploy") + os.sep
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
FAULTY = "fusion.1.skip_unit.conv1.weight"  # scaled in the file on which verify must fail

EXPORT = ("export", "--backbone", "tiny", "-o", "{out}")
CASE = ("--res", "64", "--batch", "1")
# name -> (expected exit code, command line)
JOURNEYS = {
    "run one photograph": (0, ("run", "{model}", str(PHOTOGRAPH), "-o", "{folder}/depth.pfm")),
    "export --precision int8": (0, (*EXPORT, "--precision", "int8", "--force")),
    "build one profile": (0, ("build", "{model}", "--res", "64", "-o", "{out}", "--force")),
    "verify one case": (0, ("verify", "{model}", *CASE)),
    "verify that fails and names the tensor": (5, ("verify", "{faulty}", *CASE)),
}


def main(*names):
    unknown = set(names) - {*JOURNEYS, "--files"}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(JOURNEYS)}")
    chosen = [name for name in JOURNEYS if name in names] or list(JOURNEYS)
    with tempfile.TemporaryDirectory() as folder:
        place = _prepare(Path(folder))
        print("| journey | files | of these only declarations | functions | calls |\n|---|---|---|---|---|")
        for name in chosen:
            code, command = JOURNEYS[name]
            argv = [part.format(**place) for part in command]
            found = _recorded(argv, code, Path(folder) / "calls.json")
            files = Counter(file for file, *_ in found)
            called = Counter(file for file, _, declares, _ in found if not declares)
            calls = sum(count for *_, count in found)
            print(f"| {name} | {len(files)} | {len(files) - len(called)} | {len(found)} | {calls} |", flush=True)
            if "--files" in names:
                print("\n".join(f"    {called[file]:3} of {files[file]:3} {file}" for file in sorted(files)))


def _prepare(folder):
    """Export a model and spoil a copy of it; the names that stand in the command lines."""
    out, spoiled = folder / "out", folder / "spoiled"
    command = [sys.executable, "-m", "dpt_deploy", *(part.format(out=out) for part in EXPORT)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (model,) = out.glob("*.onnx")
    spoiled.mkdir()
    for path in out.iterdir():
        (spoiled / path.name).write_bytes(path.read_bytes())
    _spoil(spoiled / model.name)
    return {"folder": str(folder), "out": str(out), "model": str(model), "faulty": str(spoiled / model.name)}


def _spoil(path):
    """Scale one weight, and put the new size and digest into the sidecar."""
    model = onnx.load(path)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == FAULTY)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.05, FAULTY))
    onnx.save(model, path)
    sidecar = path.with_name(f"{path.name}.json")
    data = json.loads(sidecar.read_text())
    content = path.read_bytes()
    (payload,) = (entry for entry in data["payloads"] if entry["name"] == path.name)
    payload.update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    sidecar.write_text(json.dumps(data))


def _recorded(argv, code, calls):
    """Run one command and record its calls: file, function, whether it is a class body, number of calls."""
    done = subprocess.run(
        [sys.executable, __file__, "--record", calls, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        sys.exit(f"{' '.join(argv)}: exit code {done.returncode}, expected {code}\n{done.stderr}")
    return json.loads(calls.read_text())


def _record(target, *argv):
    """Run the command line with a profiler that counts the calls of the package."""
    calls = Counter()

    def count(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
            declares = not code.co_flags & inspect.CO_OPTIMIZED  # a class body
            calls[code.co_filename.removeprefix(PACKAGE), code.co_qualname, declares] += 1

    sys.argv = ["dpt-deploy", *argv]
    threading.setprofile(count)
    sys.setprofile(count)
    try:
        runpy.run_module("dpt_deploy", run_name="__main__")
    finally:
        sys.setprofile(None)
        Path(target).write_text(json.dumps([(*key, number) for key, number in calls.items()]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        sys.path.insert(0, str(ROOT))
        _record(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
