"""Time the C++ runtime and Python on a full-HD image, interleaved, one thread; writes results/native-….json.

Usage: make cpp; python benchmarks/native.py SECONDS MODEL.onnx…      (the cold start is timed with the first one)
"""

import datetime
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np

import dpt_deploy

BUILD = Path(__file__).parents[1] / "build/cpp"
IMAGE = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)


def _rounds(calls, seconds):
    """Seconds of every call, interleaved in alternating order: two rounds of warm-up, then at least five."""
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < 7 or time.perf_counter() < end:
        rounds.append({})
        for name, call in list(calls.items())[:: -1 if len(rounds) % 2 else 1]:
            begin = time.perf_counter()
            call()
            rounds[-1][name] = time.perf_counter() - begin
    return rounds[2:]


def _ratio(rounds, above, below):  # median and quartiles of the ratio within each round
    return np.percentile([each[above] / each[below] for each in rounds], (50, 25, 75)).tolist()


def _started(model, folder):
    """Seconds of a cold start to a written map in a fresh process: medians of five rounds."""
    image, out = Path(folder, "image.ppm"), Path(folder, "depth.pfm")
    image.write_bytes(b"P6\n1920 1080\n255\n" + IMAGE.tobytes())
    python = [sys.executable, "-m", "dpt_deploy", "run", model, image, "-o", out]
    calls = {"python": lambda: _output(*python), "cpp": lambda: _output(BUILD / "dpt_run", model, image, out)}
    rounds = _rounds(calls, 0)
    return {name: float(np.median([each[name] for each in rounds])) for name in calls}


def _output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _measured(model, seconds):
    with ExitStack() as stack:
        loaded = (dpt_deploy.load(model, runtime=name, threads=1) for name in ("ort", "native"))
        python, cpp = map(stack.enter_context, loaded)
        inputs = python.prepare(IMAGE)
        calls = {"python": lambda: python(IMAGE), "cpp": lambda: cpp(IMAGE)}
        calls |= {"python model": lambda: python.infer(inputs), "cpp model": lambda: cpp.infer(inputs)}
        equal = np.array_equal(python(IMAGE).depth, cpp(IMAGE).depth)
        rounds = _rounds(calls, seconds)
    options = ("--threads", "1", "--seconds", f"{seconds / 4}", "--json")
    split = json.loads(_output(BUILD / "dpt_bench", model, *options))[0]
    steps = {step: split[f"{step}_ms"]["p50"] for step in ("prepare", "model", "finish")}
    result = {"model": Path(model).stem, "rounds": len(rounds), "equal_in_every_bit": equal, "cpp_p50_ms": steps}
    result["end_to_end_python_over_cpp"] = _ratio(rounds, "python", "cpp")
    result["model_cpp_over_python"] = _ratio(rounds, "cpp model", "python model")
    return {**result, "cpp_share_around_the_model": 1 - steps["model"] / sum(steps.values())}


if __name__ == "__main__":
    begun, tools = datetime.datetime.now(datetime.UTC), {name: version(name) for name in ("onnxruntime", "numpy")}
    done = {"kind": "native", "recorded": begun.isoformat(timespec="seconds"), "threads": 1, "tools": tools}
    done["processor"] = Path("/proc/cpuinfo").read_text().partition("model name")[2].splitlines()[0].strip(" \t:")
    done["allocations_per_frame"] = json.loads(_output(BUILD / "tests/count_allocations", sys.argv[2]))
    with tempfile.TemporaryDirectory() as scratch:
        done["start_to_first_result_s"] = _started(sys.argv[2], scratch)
    done["models"] = [_measured(model, float(sys.argv[1])) for model in sys.argv[2:]]
    target = Path(__file__).parent / f"results/native-ort{version('onnxruntime')}-{begun:%Y%m%d}.json"
    target.write_text(json.dumps(done, indent=2) + "\n")
