"""Clustered and merged tokens compared with the exact network: speed at three sizes, accuracy on rendered scenes.

Usage: python benchmarks/tokens.py [SECONDS [SCENES]]     (seconds of timing for each size, 15; scenes, 48)

Speed is that of DPT-Base with random weights in ONNX Runtime, interleaved with the exact file. The clusters of random
weights are as many as those of trained ones, and as costly; of accuracy they say nothing. Accuracy is that of the
shipped tiny-vit on scenes that are for studies, with paired intervals. Writes results/tokens-….json.
"""

import datetime
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import count_operations
from dpt_deploy.jobs.common.inputs import parity_images
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import normalised
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.measure import metrics
from dpt_deploy.measure.bootstrap import RESAMPLES, Estimate, image_weights, mean_of
from dpt_deploy.measure.timing import TimedCall, interleave, ratio
from dpt_deploy.model.rewrites.registry import REWRITES, approximated
from dpt_deploy.scenes.render import render_scene
from dpt_deploy.scenes.seeds import STUDIES

SIZES = (Size(384, 384), Size(384, 1216), Size(768, 768))
TIMED = (("tokens-hard", 4, 16, 16), ("tokens-merge", 4, 50))
SCORED = (
    ("tokens-hard", 4, 16, 16),
    ("tokens-hard", 2, 20, 20),
    ("tokens-hard", 2, 16, 16),
    ("tokens-knn", 2, 16, 16),
    ("tokens-hard", 2, 12, 12),
    ("tokens-hard", 0, 16, 16),
    ("tokens-merge", 2, 30),
    ("tokens-merge", 2, 50),
)


def _files(name, weights, approximations, folder):
    """The exact graph and one for each of ``approximations``, written to ``folder``: title to path."""
    request = ExportRequest(load_recipe(name), weights=weights)
    model = build_reference(request.recipe.model, resolve_weights(weights, request.recipe))[0]
    models = {"exact": model}
    for kind, *numbers in approximations:
        parameters = dict(zip(REWRITES[kind].parameters, map(float, numbers), strict=True))
        layer, *fewer = numbers
        title = f"{kind} {layer}:{'x'.join(map(str, fewer))}" + ("%" if len(fewer) == 1 else "")
        models[title] = approximated(model, kind, parameters)
    paths = {title: Path(folder) / f"{name}-{index}.onnx" for index, title in enumerate(models)}
    for title, path in paths.items():
        save_graph(fp32_graph(models[title], request), path)
    return request.recipe, paths


def _speed(paths, recipe, seconds):
    rows = []
    for size in SIZES:
        inputs = {INPUT_FLOAT: normalised(parity_images("fp32", 1, size), recipe.image.mean, recipe.image.std)}
        with ExitStack() as stack:
            runners = {title: stack.enter_context(open_runner(path)) for title, path in paths.items()}
            calls = {title: TimedCall(partial(each.infer, inputs), each.synchronize) for title, each in runners.items()}
            session = interleave(calls, seconds=seconds)
        for title, path in paths.items():
            timing = session.timings[title]
            row = {"size": str(size), "file": title, "rounds": session.rounds, "ms": 1e3 * timing.median}
            row["times_as_fast"] = ratio(session.timings["exact"], timing)
            row["gflop"] = count_operations(OpenedGraph(path), size).total / 1e9
            rows.append(row)
            print(row, flush=True)
    return rows


def _error(output, scene):
    """AbsRel of an inverse depth after alignment to the truth, in 0..1."""
    valid = scene.depth < metrics.OUTDOOR_CAP
    depth = metrics.zero_shot_depth(output, scene.depth, valid, metrics.OUTDOOR_CAP)
    return metrics.depth_metrics(depth, scene.depth, valid).abs_rel


def _accuracy(paths, recipe, count):
    size = Size(recipe.image.height, recipe.image.width)
    scenes = [render_scene(STUDIES.start + index, height=size.height, width=size.width) for index in range(count)]
    errors = {}
    for title, path in paths.items():
        with open_runner(path) as runner:
            inputs = [normalised(scene.image[None], recipe.image.mean, recipe.image.std) for scene in scenes]
            maps = [next(iter(runner.infer({INPUT_FLOAT: pixels}).values()))[0] for pixels in inputs]
        errors[title] = np.array([_error(*pair) for pair in zip(maps, scenes, strict=True)])
    weights = image_weights(count, 0, RESAMPLES)
    full = weights @ errors["exact"]
    rows = []
    for title, found in errors.items():
        row = {"file": title, "abs_rel": asdict(mean_of(found))}
        row["change_percent"] = asdict(Estimate.of(100 * ((weights @ found) / full - 1)))
        row["gflop"] = count_operations(OpenedGraph(paths[title]), size).total / 1e9
        rows.append(row)
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    seconds, scenes = (float(text) for text in [*sys.argv[1:], *("15", "48")[len(sys.argv) - 1 :]])
    begun = datetime.datetime.now(datetime.UTC)
    done = {"kind": "tokens", "recorded": begun.isoformat(timespec="seconds"), "environment": fingerprint()}
    done["load_average_before"] = os.getloadavg()
    with tempfile.TemporaryDirectory() as scratch:
        recipe, paths = _files("tiny-vit", None, SCORED, scratch)
        done["accuracy"] = {"model": "tiny-vit", "scenes": int(scenes), "rows": _accuracy(paths, recipe, int(scenes))}
        recipe, paths = _files("base", "random", TIMED, scratch)
        done["speed"] = {"model": "base", "weights": "random", "rows": _speed(paths, recipe, seconds)}
    target = Path(__file__).parent / f"results/tokens-ort{version('onnxruntime')}-{begun:%Y%m%d}.json"
    target.write_text(json.dumps(done, indent=1) + "\n")
    print(target)
