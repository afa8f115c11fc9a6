"""Trace networks with operators replaced here, or decomposed by PyTorch; writes results/trace-time-….json.

Usage: python benchmarks/trace_time.py [ROUNDS] [MODEL ...]     (random weights; default: 3 rounds of CASES)

Both ways lead from the same module to an FP32 graph of any batch, height and width. They take turns in one process,
after one trace of each that does not count. The graphs must compute the same numbers in ONNX Runtime, bit for bit.
"""

import datetime
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import onnx_ir as ir
import torch
import torch.fx.experimental._config as symbolic_config

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.graph import exporter
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.runtime.onnxruntime import OrtRunner

CASES = ("tiny", "tiny-vit", "tiny-conv", "base", "hybrid", "midas-v21", "dpt-dinov2-small-nyu", "swin2-tiny-256")


def decomposed_by_pytorch(module, example, dynamic_shapes):
    """As the exporter traces a module."""
    with symbolic_config.patch(backed_size_oblivious=True):
        return torch.export.export(module, (example,), dynamic_shapes=dynamic_shapes, strict=False)


WAYS = {"pytorch": decomposed_by_pytorch, "replaced": exporter.program_of}


def traced(way, model, recipe):
    """The graph, and the seconds of all threads that it took."""
    with mock.patch.object(exporter, "program_of", WAYS[way]):
        begin = time.process_time()
        graph = fp32_graph(model, ExportRequest(recipe, weights="random"))
        return graph, time.process_time() - begin


def outputs(graph, side, folder):
    path = Path(folder) / "graph.onnx"
    ir.save(graph, path, external_data="graph.data")
    with OrtRunner(path) as runner:
        image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
        return list(runner.infer({runner.inputs[0].name: image}).values())


def compared(name, rounds):
    recipe = load_recipe(name)
    model = random_model(recipe.model)
    seconds, found = {way: [] for way in WAYS}, {}
    for index in range(-1, rounds):
        for way in sorted(WAYS, reverse=bool(index % 2)):
            graph, taken = traced(way, model, recipe)
            if index < 0:
                with tempfile.TemporaryDirectory() as folder:
                    kinds = Counter(node.op_type for node in graph.graph)
                    found[way] = (kinds, outputs(graph, 4 * recipe.model.stride, folder))
            else:
                seconds[way].append(taken)
    (kinds, one), (other_kinds, other) = found.values()
    ratios = [slow / fast for slow, fast in zip(seconds["pytorch"], seconds["replaced"], strict=True)]
    return {
        "model": name,
        "seconds": {way: float(np.median(each)) for way, each in seconds.items()},
        "as_fast": [float(np.quantile(ratios, share)) for share in (0.5, 0.0, 1.0)],
        "nodes": {way: each[0].total() for way, each in found.items()},
        "same_operators": kinds == other_kinds,
        "equal": all(np.array_equal(left, right) for left, right in zip(one, other, strict=True)),
    }


def main(rounds="3", *names):
    document = {
        "kind": "trace-time",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "load_average_before": list(os.getloadavg()),
        "rounds": int(rounds),
        "rows": [],
    }
    target = Path(__file__).parent / f"results/trace-time-{os.cpu_count()}c.json"
    for name in names or CASES:
        document["rows"].append(compared(name, int(rounds)))
        print(document["rows"][-1], flush=True)
        target.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
