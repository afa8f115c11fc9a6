"""Time graphs that OpenVINO compiled for one size next to those for any size; writes results/openvino-graphs-….json.

Usage: python benchmarks/openvino_graphs.py [SECONDS [FILE@SIDE …]]     (default: 40 for each of CASES)

Both graphs are opened by the runner of this package, interleaved, for half of the time in each order. The share of the
kinds of operators is that of the profile of a graph for one size: OpenVINO's own measure, of a few more runs. Files may
be ONNX files or OpenVINO's (.xml), such as those that `nncf_comparison.py` leaves.
"""

import datetime
import json
import os
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.cached import cached_artifact
from dpt_deploy.measure.timing import TimedCall, interleave, ratio
from dpt_deploy.runtime import openvino

CASES = (("tiny", "int8-openvino", 192), ("base", "fp32", 384), ("base", "int8-openvino", 384))
CASES += (("hybrid", "int8-openvino", 384),)
RUNNERS = {"f32": openvino.OpenVinoRunner, "bf16": openvino.OpenVinoBf16Runner}  # by the type of what is not quantised
WAYS = ("one size", "any size")
PROFILED, WARM_UP = 6, 3
KINDS = {  # name of a kind of operator to beginnings of OpenVINO's names; everything else is "small operators"
    "linear layers": ("FullyConnected",),
    "attention": ("MatMul", "Softmax", "ScaledDotProductAttention"),
    "convolutions": ("Convolution", "Deconvolution"),
    "changes of layout": ("Reorder", "Transpose", "Reshape"),
}
FUSED, ATTENTION = "Subgraph", ".attn/"  # what OpenVINO compiles several operators to; a part of our nodes' names


def opened(path, rest, way, inputs, stack):
    """A runner whose graph is compiled: for the size of ``inputs``, or for any."""
    runner = stack.enter_context(RUNNERS[rest](path))
    if way == "any size":
        runner._graph_for = lambda _inputs: runner._graph(None)
    runner.infer(inputs)
    return runner


def inputs_of(path, side):
    with RUNNERS["f32"](path) as runner:
        name = runner.inputs[0].name
    return {name: np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)}


def timed(path, rest, inputs, seconds):
    """The session of both graphs, half of the time in each order of opening, and what the runner says of them."""
    sessions, said = [], {}
    for order in (WAYS, WAYS[::-1]):
        with ExitStack() as stack:
            runners = {way: opened(path, rest, way, inputs, stack) for way in order}
            said = {way: runner.settings["compiled for"] for way, runner in runners.items()}
            calls = {
                way: TimedCall(lambda runner=runner: runner.infer(inputs), runner.synchronize)
                for way, runner in runners.items()
            }
            sessions.append(interleave(calls, seconds=seconds / 2))
    return sessions[0].followed_by(sessions[1]), said


def profile(path, rest, inputs):
    """Milliseconds of a run by kinds of operators, in the graph for the size of ``inputs``."""
    runner = RUNNERS[rest](path)
    config, found = {**runner._config(), "PERF_COUNT": True}, Counter()
    with mock.patch.object(runner, "_config", return_value=config), runner:
        request = runner._graph_for(inputs).idle.get()
        for index in range(WARM_UP + PROFILED):
            request.infer(inputs)
            for entry in request.get_profiling_info() if index >= WARM_UP else ():
                found[kind_of(entry.node_type, entry.node_name)] += entry.real_time.total_seconds() * 1000 / PROFILED
    return dict(found)


def kind_of(operator, name):
    if operator == FUSED and ATTENTION in name:
        return "attention"
    return next((kind for kind, names in KINDS.items() if operator.startswith(names)), "small operators")


def compared(path, name, precision, side, seconds):
    """A row for each type that the rest is computed in; without one for BF16 where the processor has none."""
    inputs, rows = inputs_of(path, side), []
    for rest in RUNNERS:
        try:
            session, said = timed(path, rest, inputs, seconds)
        except IncompatibleError:
            continue
        one, other = (session.timings[way] for way in WAYS)
        rows.append(
            {
                "model": name,
                "precision": precision,
                "size": side,
                "rest": rest,
                "compiled_for": said,
                "p50_ms": {way: 1000 * timing.median for way, timing in session.timings.items()},
                "times_as_fast": ratio(other, one),
                "rounds": session.rounds,
                "profile_ms": profile(path, rest, inputs),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(seconds="40", *files):
    document = {
        "kind": "openvino-graphs",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "load_average_before": list(os.getloadavg()),
        "rows": [],
    }
    for backbone, precision, side in () if files else CASES:
        path = cached_artifact(backbone, [Size(side, side)], precision=precision).path
        document["rows"] += compared(path, backbone, precision, side, float(seconds))
    for each in files:
        path, side = each.rsplit("@", 1)
        document["rows"] += compared(Path(path), Path(path).name, "", int(side), float(seconds))
    if not files:
        target = Path(__file__).parent / f"results/openvino-graphs-{os.cpu_count()}c.json"
        target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
