"""Compare our 8-bit files with those that NNCF makes of the same network from the same calibration images.

Usage: python benchmarks/nncf_comparison.py FOLDER [CASE…]     (default: those of NETWORKS)

Needs `pip install nncf`. FP32 files are exported to FOLDER unless they are there. Errors are distances to FP32 on
rendered scenes that calibrated nothing, image by image, so ratios are paired; AbsRel compares with the true depth where
weights are trained. NNCF runs with its settings for transformers. It makes the file for OpenVINO from OpenVINO's model
of our graph, and the one for ONNX Runtime from opset 20: what it makes of opset 23 does not load there. Files are timed
in OpenVINO, interleaved, if the processor has a unit for 8-bit products: otherwise OpenVINO computes them in floats. A
sample is the mean of runs in a row, as in a program with one file. Both orders of opening take half of the time,
because the file that is opened first is slower. A case is recorded once for each processor.
"""

import datetime
import json
import logging
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import nncf
import numpy as np
import onnx
import onnx_ir as ir
import openvino

from dpt_deploy.core.environment import fingerprint, sums_8_bits_in_16
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export import accuracy
from dpt_deploy.jobs.export.calibration import Calibration, from_scenes
from dpt_deploy.jobs.export.correction import with_chosen_correction
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import calibrate, quantised
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.measure import metrics
from dpt_deploy.measure.bootstrap import Estimate, image_weights
from dpt_deploy.measure.timing import TimedCall, Timing, interleave, ratio
from dpt_deploy.model.landmarks import Landmarks

NETWORKS = {  # network, trained, side, calibration images, images
    "tiny": ("tiny", True, 192, 24, 8),
    "tiny-vit": ("tiny-vit", True, 192, 24, 8),
    "tiny-conv": ("tiny-conv", True, 192, 24, 8),
    "base": ("base", False, 384, 8, 8),
    "hybrid": ("hybrid", False, 384, 8, 8),
    "base-768": ("base", False, 768, 4, 4),
    "hybrid-768": ("hybrid", False, 768, 4, 4),
}
OURS, NNCF, NNCF_OPSET = "ours", "nncf", 20  # the latter for ONNX Runtime
FILES = {"ort": "int8-cpu", "openvino": "int8-openvino"}  # runtime to our file for it
SECONDS, RUNS, RESAMPLES = 40.0, 5, 2000  # of timing, after warm-up; in a row; of the images


def main(folder, *names):
    nncf.set_log_level(logging.ERROR)
    result = json.loads((target := Path(__file__).parent / "results/nncf.json").read_text())
    for name in names or NETWORKS:
        rows = [*result["networks"], compare(name, Path(folder))]
        cases = {(row["network"], row["size"], row["environment"]["processor"]): row for row in rows}
        result["networks"] = list(cases.values())
        atomic_write_bytes(target, (json.dumps(result, indent=1) + "\n").encode())
    print(target)


def compare(name, folder):
    """Quantise a network both ways, and measure every file in both runtimes."""
    network, trained, side, few, images = NETWORKS[name]
    weights = None if trained else "random"
    request = ExportRequest(load_recipe(network), weights=weights, precision="int8", res=(Size(side, side),))
    full, decomposed = (
        export_model(ExportRequest(request.recipe, weights=weights, opset=opset), folder).artifact.path
        for opset in (None, NNCF_OPSET)
    )
    setup = MeasurementSetup(request, _first(few, request.res[0], folder), trained, Landmarks((), {}, "", ""), folder)
    samples = _samples(request.res[0], trained, images, folder)
    files = {**_ours(name, full, setup, folder), **_by_nncf(name, full, decomposed, setup, folder, few)}
    exact = _outputs(full, "ort", samples, setup)
    rows = [_measured(maker, runtime, path, exact, samples, setup) for (maker, runtime), path in files.items()]
    return {
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": {**fingerprint(), "nncf": nncf.__version__},
        "network": network,
        "weights": "trained" if trained else "random",
        "size": str(request.res[0]),
        "opset": request.graph_opset,
        "images": images,
        "calibration_images": few,
        "fp32_abs_rel": _abs_rel(exact, samples) if trained else None,
        "files": rows,
        "paired": {runtime: _paired(rows, runtime) for runtime in ("ort", "openvino")},
        "speed": {} if sums_8_bits_in_16() else _speed(files, samples[0], setup),
    }


def _first(few, size, folder):
    """The first images that an export calibrates with, rendered and resized once."""
    if not (path := folder / f"calibration-{size}.npy").is_file():
        np.save(path, np.concatenate([pixels for _, pixels in from_scenes().at([size])]))
    images = np.load(path)[:few]
    return Calibration(f"{few} rendered scenes", few, lambda: iter(images))


def _samples(size, trained, count, folder):
    if not (path := folder / f"scenes-{size}.npz").is_file():
        found = accuracy.from_scenes(size, truth=True).images
        np.savez(path, pixels=[each.pixels for each in found], depth=[each.depth for each in found])
    pairs = zip(*(np.load(path)[kind][:count] for kind in ("pixels", "depth")), strict=True)
    return [accuracy.SampleImage(pixels, depth if trained else None) for pixels, depth in pairs]


def _ours(name, full, setup, folder):
    graph, files = ir.load(full), {}
    for runtime, precision in FILES.items():
        path = folder / f"{name}-ours-{runtime}.onnx"
        asked = replace(setup, request=replace(setup.request, precision=precision))
        table = with_chosen_correction(graph, full, calibrate(full, asked), asked)
        save_graph(quantised(graph, precision, table), path)
        files[OURS, runtime] = path
    return files


def _by_nncf(name, full, decomposed, setup, folder, few):
    data = nncf.Dataset(list(setup.calibration_inputs()))
    options, for_ort = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": few}, folder / f"{name}-nncf.onnx"
    onnx.save(nncf.quantize(onnx.load(decomposed), data, **options), for_ort)
    made = nncf.quantize(openvino.Core().read_model(full), data, **options)
    openvino.save_model(made, for_openvino := folder / f"{name}-nncf.xml", compress_to_fp16=False)
    return {(NNCF, "ort"): for_ort, (NNCF, "openvino"): for_openvino}


def _outputs(path, runtime, samples, setup):
    with open_runner(path, runtime) as runner:
        return [next(iter(runner.infer(setup.to_inputs(each.pixels)).values())) for each in samples]


def _measured(maker, runtime, path, exact, samples, setup):
    try:
        found = _outputs(path, runtime, samples, setup)
    except (DptError, RuntimeError) as exc:  # a refusal is a result too
        return {"maker": maker, "runtime": runtime, "message": str(exc).splitlines()[0]}
    largest, means = zip(*[metrics.range_error(*pair) for pair in zip(found, exact, strict=True)], strict=True)
    return {
        "maker": maker,
        "runtime": runtime,
        "max": largest,
        "mean": means,
        "sqnr": metrics.sqnr(zip(found, exact, strict=True)),
        "abs_rel": _abs_rel(found, samples) if samples[0].depth is not None else None,
    }


def _abs_rel(outputs, samples):
    cap, found = metrics.OUTDOOR_CAP, []
    for output, each in zip(outputs, samples, strict=True):
        valid = each.depth < cap
        depth = metrics.zero_shot_depth(output[0], each.depth, valid, cap)
        found.append(metrics.depth_metrics(depth, each.depth, valid).abs_rel)
    return found


def _paired(rows, runtime):
    """Our mean error over NNCF's in one runtime, and its 95 % interval over images; None if a file does not run."""
    found = {row["maker"]: row.get("mean") for row in rows if row["runtime"] == runtime}
    if None in found.values():
        return None
    weights = image_weights(len(found[OURS]), 0, RESAMPLES)
    return asdict(Estimate.of((weights @ np.array(found[OURS])) / (weights @ np.array(found[NNCF]))))


def _speed(files, sample, setup):
    """Our speed over NNCF's in OpenVINO, the rest in FP32 or BF16: median of rounds and interval; None if one fails."""
    inputs, speed = setup.to_inputs(sample.pixels), {}
    for runtime in ("openvino", "openvino-bf16"):
        try:
            pairs = [_timings(files, order, runtime, inputs) for order in ((OURS, NNCF), (NNCF, OURS))]
            ours, theirs = (Timing(np.concatenate([pair[maker].seconds for pair in pairs])) for maker in (OURS, NNCF))
            speed[runtime] = {"ratio": ratio(theirs, ours), "rounds": len(ours.seconds)}
        except (DptError, RuntimeError) as exc:  # a refusal is a result too
            speed[runtime] = {"message": str(exc).splitlines()[0]}
    return speed


def _timings(files, order, runtime, inputs):
    with ExitStack() as stack:
        calls = {}
        for maker in order:
            runner = stack.enter_context(open_runner(files[maker, "openvino"], runtime))
            runs = [runner.infer] * RUNS
            calls[maker] = TimedCall(lambda runs=runs: [run(inputs) for run in runs], runner.synchronize, times=RUNS)
        return interleave(calls, seconds=SECONDS).timings


main(*sys.argv[1:])
