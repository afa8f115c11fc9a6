"""Load files in ONNX Runtime with and without its plan for buffers; writes results/load-time-….json.

Usage: python benchmarks/load_time.py [ROUNDS]     (default: 6; shipped `tiny` and random `base`)

The runner of this package loads without the plan. Each load is a session in a new process, by turns; its peak memory is
read after one run. Runs of both sessions are interleaved in one process, and must return the same numbers.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.cached import cached_artifact
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure.timing import TimedCall, interleave, ratio

CASES = (("tiny", "fp32", 192), ("tiny", "int8-cpu", 192), ("tiny", "fp16", 192), ("base", "fp32", 384))
SECONDS = 20.0


class Planned(onnxruntime.SessionOptions):
    """Options whose plan for buffers cannot be switched off."""

    def __setattr__(self, name, value):
        if name != "enable_mem_reuse":
            super().__setattr__(name, value)


def opened(path, planned):
    """A runner of the file, and the seconds that it took to open it; FP16 is emulated, as in every export."""
    artifact = open_artifact(path)
    emulated = artifact.sidecar.precision == "fp16"
    with mock.patch.object(onnxruntime, "SessionOptions", Planned if planned else onnxruntime.SessionOptions):
        begin = time.perf_counter()
        runner = open_runner(artifact, "emu" if emulated else "ort").__enter__()
    return runner, time.perf_counter() - begin


def inputs_of(runner, side):
    return {runner.inputs[0].name: np.random.default_rng(0).random((1, 3, side, side), np.float32)}


def child(path, side, planned):
    """Print seconds of loading, and peak memory after a run."""
    runner, seconds = opened(path, planned == "planned")
    runner.infer(inputs_of(runner, int(side)))
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def loads(path, side, rounds):
    """Seconds and bytes of each load, by turns."""
    found = {"planned": [], "unplanned": []}
    for index in range(rounds):
        for way in sorted(found, reverse=bool(index % 2)):
            command = [sys.executable, __file__, "child", str(path), str(side), way]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way].append(json.loads(out.splitlines()[-1]))
    return found


def compared(case, rounds):
    """Medians of both ways to load, and the ratio of their runs."""
    backbone, precision, side = case
    path = cached_artifact(backbone, sizes=[Size(side, side)], precision=precision).path
    found = loads(path, side, rounds)
    runners = {way: opened(path, way == "planned")[0] for way in found}
    with ExitStack() as stack:
        for runner in runners.values():
            stack.push(runner.__exit__)
        fed = inputs_of(runners["planned"], side)
        one, other = (list(runner.infer(fed).values()) for runner in runners.values())
        equal = all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))
        calls = {
            way: TimedCall(lambda runner=runner: runner.infer(fed), runner.synchronize)
            for way, runner in runners.items()
        }
        session = interleave(calls, seconds=SECONDS)
    paired = [
        with_plan[0] / without[0] for with_plan, without in zip(found["planned"], found["unplanned"], strict=True)
    ]
    return {
        "model": backbone,
        "precision": precision,
        "size": side,
        "load_seconds": {way: float(np.median([row[0] for row in rows])) for way, rows in found.items()},
        "peak_bytes": {way: int(np.median([row[1] for row in rows])) for way, rows in found.items()},
        "loads_as_fast": [float(np.quantile(paired, share)) for share in (0.5, 0.25, 0.75)],
        "runs_as_fast": ratio(session.timings["planned"], session.timings["unplanned"]),
        "rounds": session.rounds,
        "equal": equal,
    }


def main(rounds="6"):
    document = {
        "kind": "load-time",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "load_average_before": list(os.getloadavg()),
        "turns": int(rounds),
        "rows": [],
    }
    target = Path(__file__).parent / f"results/load-time-{os.cpu_count()}c.json"
    for case in CASES:
        document["rows"].append(compared(case, int(rounds)))
        print(document["rows"][-1], flush=True)
    target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["child"] else main(*sys.argv[1:])
