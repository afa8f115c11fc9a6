"""Time one model as two candidates next to PyTorch and OpenVINO; writes results/same-twice-….json.

Usage: python benchmarks/same_twice.py [SECONDS [spin]]    (default: 60 for each of tiny at 192 and random base at 384)

Both candidates are the same file in a session of its own, in ONNX Runtime and in OpenVINO, timed as `bench` does. A
ratio that is not 1 within 2 % is a bias of the benchmark; the script then ends with 1. With `spin`, threads of ONNX
Runtime spin between runs and PyTorch gets no pause: the bias that the benchmark avoids.
"""

import dataclasses
import datetime
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import onnxruntime

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import candidates
from dpt_deploy.jobs.bench.cached import cached_artifact
from dpt_deploy.measure.timing import interleave, ratio

CASES = (("tiny", 192), ("base", 384))
NAMES = ("ort", "ort", "openvino", "openvino", "torch")
ALLOWED = 0.02


class Spinning(onnxruntime.SessionOptions):
    """Options without the one that ends spinning with a run."""

    def add_session_config_entry(self, key, value):
        if key != "session.force_spinning_stop":
            super().add_session_config_entry(key, value)


def compared(backbone, side, seconds, spin):
    """Ratios of the first candidate of a name to the second, with 95 % intervals."""
    with ExitStack() as stack:
        artifact = cached_artifact(backbone)
        module, images = candidates.reference_module(artifact), candidates.images_of(Size(side, side), 1)
        calls = {}
        for index, name in enumerate(NAMES):
            call = stack.enter_context(candidates.enter(name, artifact, artifact.path, module, images))
            calls[name, index] = dataclasses.replace(call, pause=0.0) if spin else call
        session = interleave(calls, seconds=seconds)
    first, second, third, fourth, alone = (session.timings[key] for key in calls)
    pairs = {"ort": ratio(first, second), "openvino": ratio(third, fourth)}
    medians = {"ort": first.median, "openvino": third.median, "torch": alone.median}
    settings = {name: dict(call.settings) for (name, _), call in calls.items()}
    found = {"model": artifact.path.stem, "weights": str(artifact.sidecar.weights), "size": side}
    found |= {"rounds": session.rounds, "ratio": pairs, "settings": settings}
    return found | {"p50_ms": {name: 1000 * value for name, value in medians.items()}}


def main(seconds="60", spin=""):
    """Record the result; return the exit code."""
    begun = datetime.datetime.now(datetime.UTC)
    with mock.patch.object(onnxruntime, "SessionOptions", Spinning if spin else onnxruntime.SessionOptions):
        cases = [compared(*case, float(seconds), spin) for case in CASES]
    result = {"kind": "same-twice", "recorded": begun.isoformat(timespec="seconds"), "environment": fingerprint()}
    result |= {"spinning_between_runs": bool(spin), "load_average": os.getloadavg(), "cases": cases}
    name = f"same-twice{'-spinning' if spin else ''}-{os.cpu_count()}c-{begun:%Y%m%d}.json"
    (Path(__file__).parent / "results" / name).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(cases, indent=2))
    return int(any(abs(value[0] - 1) > ALLOWED for case in cases for value in case["ratio"].values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
