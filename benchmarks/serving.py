"""A real Triton server under load: `tiny` with one and two instances, and with a bounded queue, by turns.

It writes results/serving-….json.

Usage: nox -s serve -- SECONDS        (default: 60; an environment with the server, see noxfile.py)

The server has no back end for ONNX: a fake in its Python back end runs ONNX Runtime with one thread. Clients share the
machine's cores with it. Sizes are mixed, and every answer is compared with that of a lone request.
"""

import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.triton import TritonServer

from dpt_deploy.jobs.bench.result import machine
from dpt_deploy.jobs.bench.served import LEVELS, ServingLevel, bench_served
from dpt_deploy.jobs.serve.repository import write_repository
from dpt_deploy.jobs.serve.request import ServeOptions

ROOT = Path(__file__).parents[1]
SIZES = ("192", "192x256", "256x192")
ONE, TWO, BOUNDED = "tiny-fp32", "two-instances", "bounded-queue"
QUEUE = "dynamic_batching { default_queue_policy { max_queue_size: 64 } }\n"


def repository(folder):
    """A repository with one instance of the network, and copies with two instances and with a bound of the queue."""
    command = [sys.executable, "-m", "dpt_deploy", "-q", "export", "--backbone", "tiny", "-o", str(folder / "out")]
    subprocess.run(command, check=True, cwd=ROOT)
    models = folder / "models"
    write_repository([folder / "out/tiny-fp32.onnx"], models, ServeOptions(instances=1, threads=1, image=False))
    text = (models / ONE / "config.pbtxt").read_text()
    for copy, changed in ((TWO, text.replace("count: 1", "count: 2", 1)), (BOUNDED, text + QUEUE)):
        shutil.copytree(models / ONE, models / copy)
        named = changed.replace(f'name: "{ONE}"', f'name: "{copy}"', 1)
        (models / copy / "config.pbtxt").write_text(named)
    return models


def measure(server, artifact, seconds):
    """Levels of the models, by turns: each turn has one slice of each level."""
    found = {model: {level: ServingLevel(level) for level in LEVELS} for model in (ONE, TWO, BOUNDED)}
    for _ in range(max(1, round(seconds / (len(found) * len(LEVELS))))):
        for model, levels in found.items():
            for new in bench_served(artifact, server.address(model), sizes=SIZES, seconds=1).levels:
                total = levels[new.concurrency]
                total.rates += new.rates
                total.latencies += new.latencies
                total.wrong += new.wrong
                total.failed += new.failed
    return found


def main(seconds):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = repository(folder)
        artifact = folder / "out/tiny-fp32.onnx"
        with TritonServer(models, folder) as server:
            measure(server, artifact, 8)  # warm-up: shared memory and buffers grow to their size
            memory, shared = server.memory_bytes(), len(server.shared_files())
            found = measure(server, artifact, seconds)
            after, shared_after = server.memory_bytes(), len(server.shared_files())
    rows = {model: [level.to_dict() for level in levels.values()] for model, levels in found.items()}
    environment = machine()
    gains = {
        one["concurrency"]: two["requests_per_second"] / one["requests_per_second"]
        for one, two in zip(rows[ONE], rows[TWO], strict=True)
    }
    document = {
        "kind": "serving",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "protocol": "closed loop over gRPC; models and levels interleaved in slices of 1 s after a warm-up",
        "sizes": list(SIZES),
        "environment": environment,
        "one_instance": rows[ONE],
        "two_instances": rows[TWO],
        "one_instance_bounded_queue": rows[BOUNDED],
        "gain_of_two_instances": gains,
        "private_memory_bytes": [memory, after],
        "shared_memory_files": [shared, shared_after],
    }
    path = ROOT / "benchmarks/results" / f"serving-tiny-fp32-{environment['cores']}c.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps({key: document[key] for key in list(document)[5:]}, indent=2))
    print(f"written to {path}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
