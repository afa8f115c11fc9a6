"""Measure peak memory and time of an export, relative to the size of the weights; writes results/export-memory-….json.

Usage: python benchmarks/export_memory.py [BACKBONE]        (default: large)
"""

import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

backbone = sys.argv[1] if len(sys.argv) > 1 else "large"
with tempfile.TemporaryDirectory() as folder:
    begin = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "dpt_deploy",
        "export",
        "--backbone",
        backbone,
        "--weights",
        "random",
        "-o",
        folder,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the only child so far
    (model,) = Path(folder).glob("*.onnx")
    command = [sys.executable, "-m", "dpt_deploy", "inspect", str(model), "--json"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

weights = found["parameters"] * 4
tools = found["sidecar"]["tools"]
result = {
    "kind": "export-memory",
    "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "model": model.stem,
    "weights_bytes": weights,
    "peak_bytes": peak,
    "peak_over_weights": peak / weights,
    "seconds": seconds,
    "operations": found["sidecar"]["operations"],
    "tools": tools,
}
name = f"export-memory-{backbone}-torch{tools['torch']}-{result['recorded'][:10].replace('-', '')}.json"
target = Path(__file__).parent / "results" / name
target.parent.mkdir(exist_ok=True)
target.write_text(json.dumps(result, indent=2) + "\n")
ratio = f"{peak / weights:.2f} times"
print(f"{model.stem}: weights {weights / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB ({ratio}), {seconds:.0f} s")
print(target)
