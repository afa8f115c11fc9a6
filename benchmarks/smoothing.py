"""Does smoothing lower the error of 8-bit files? The same network with and without it, image by image.

Usage: python benchmarks/smoothing.py [CASE…]     (default: those of NETWORKS)

Each file is made as `export --precision int8-cpu` makes it, with and without `--smooth`: own ranges, and corrections of
biases where they win. The squared error is that to the FP32 file, on rendered scenes that calibrated nothing. A ratio
below 1 is a gain. Writes results/smoothing.json; cases that are not run keep their rows.
"""

import datetime
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.jobs.export import accuracy
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.calibration import from_scenes
from dpt_deploy.jobs.export.correction import paired_ratio, with_chosen_correction
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import calibrate, quantised
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.export.smoothing import smoothed
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.model.landmarks import Landmarks

NETWORKS = {  # network, weights, side, images
    "tiny": ("tiny", None, 192, 24),
    "tiny-vit": ("tiny-vit", None, 192, 24),
    "tiny-both": ("tiny-both", None, 192, 24),
    "base": ("base", "random", 384, 8),
    "hybrid": ("hybrid", "random", 384, 8),
}
PRECISION = "int8-cpu"


def compare(name):
    """Squared errors of both files and their paired ratio."""
    network, weights, side, count = NETWORKS[name]
    request = ExportRequest(load_recipe(network), weights=weights, precision=PRECISION, res=(Size(side, side),))
    model = build_reference(request.recipe.model, resolve_weights(weights, request.recipe))[0]
    samples = _samples(request.res[0], count)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        setup = MeasurementSetup(request, from_scenes(), False, Landmarks((), {}, "", ""), folder)
        graph, full = fp32_graph(model, request), folder / "full.onnx"
        save_graph(graph, full)
        exact = _outputs(full, samples, setup)
        changed, norms = smoothed(graph, full, setup)
        errors = [_errors(each, samples, exact, setup) for each in (changed, graph)]
    return {
        "network": network,
        "weights": weights or "trained",
        "size": str(request.res[0]),
        "images": count,
        "smoothed_norms": norms,
        "squared_errors": {"smoothed": errors[0].tolist(), "plain": errors[1].tolist()},
        "ratio": asdict(paired_ratio(*errors)),
    }


def _errors(graph, samples, exact, setup):
    source, path = setup.folder / "source.onnx", setup.folder / "quantised.onnx"
    save_graph(graph, source)
    table = with_chosen_correction(graph, source, calibrate(source, setup), setup)
    save_graph(quantised(graph, PRECISION, table), path)
    pairs = zip(_outputs(path, samples, setup), exact, strict=True)
    return np.array([np.mean((found - wanted) ** 2) for found, wanted in pairs])


def _samples(size, count):
    """Scenes of the accuracy record and of its search: they calibrate nothing."""
    found = [*accuracy.from_scenes(size, truth=False).images]
    first = accuracy.ACCURACY.start
    while len(found) < count:
        first += accuracy.SCENES
        found += accuracy.from_scenes(size, truth=False, first=first).images
    return found[:count]


def _outputs(path, samples, setup):
    with open_runner(path) as runner:
        return [next(iter(runner.infer(setup.to_inputs(each.pixels)).values())).astype(np.float64) for each in samples]


if __name__ == "__main__":
    target = Path(__file__).parent / "results/smoothing.json"
    result = json.loads(target.read_text()) if target.is_file() else {"kind": "smoothing", "networks": []}
    for name in sys.argv[1:] or NETWORKS:
        new = compare(name)
        print(name, new["smoothed_norms"], new["ratio"], flush=True)
        rows = {row["network"]: row for row in [*result["networks"], new]}
        result["networks"] = list(rows.values())
        result["recorded"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        result["environment"] = fingerprint()
        atomic_write_bytes(target, (json.dumps(result, indent=1) + "\n").encode())
    print(target)
