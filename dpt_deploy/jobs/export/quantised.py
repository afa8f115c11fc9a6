"""Turn an FP32 graph into quantised ones: one calibration serves all files of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dpt_deploy.artifact.records import RangeRecord
from dpt_deploy.core.precision import FP16, find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.graph.precision.affine import hide_affines
from dpt_deploy.graph.precision.attention import split_projections
from dpt_deploy.graph.precision.bias import Means, correct, is_correctable, shifts, write_means_probe
from dpt_deploy.graph.precision.clipping import clipping_value
from dpt_deploy.graph.precision.fp32_nodes import choose_fp32_nodes
from dpt_deploy.graph.precision.group_norms import write_out_group_norms
from dpt_deploy.graph.precision.histograms import Histograms
from dpt_deploy.graph.precision.qdq import Bounds, ends, grid, quantise, quantised_format, watched
from dpt_deploy.graph.precision.ranges import Probe
from dpt_deploy.graph.precision.types import to_half
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.typed import measure_ranges


@dataclass(frozen=True)
class CalibrationTable:
    """One calibration of a graph.

    ``clip`` maps each tensor to its clipping value, ``bounds`` to its least and largest number. ``kept`` are the nodes
    that are not quantised, with reasons. ``fp32_nodes`` are the nodes that stay FP32 where the other ones have 16 bits,
    with reasons. ``shifts`` maps a precision and a node to what its bias lacks once the node is quantised.
    """

    ranges: RangeRecord
    clip: dict[str, float]
    kept: dict[str, str]
    fp32_nodes: dict[str, str]
    bounds: dict[str, Bounds]
    shifts: dict[str, dict[str, np.ndarray]]


def calibrate(full: Path, setup: MeasurementSetup) -> CalibrationTable:
    """Measure the table of the FP32 graph at ``full``; memory is that of one image and a tenth of its tensors.

    Raises:
        BadFileError: the graph is typed already, or a tensor is not finite in FP32.
        ResourceError: disk or memory.
    """
    model, method = ir.load(full), setup.request.method
    forms = [quantised_format(name) for name in find_precision(setup.request.precision).files]
    kept = ends(model, image=all(form.image for form in forms))
    say(f"measuring {method} ranges on {setup.calibration.source} at {', '.join(map(str, setup.sizes))}")
    names = watched(model, kept, scores=any(form.scores for form in forms))
    histograms, bounds = Histograms(names), dict[str, Bounds]()

    def collect(probe: Probe, outputs: dict[str, np.ndarray]) -> None:
        histograms.add(probe.samples(outputs))
        for name, (low, high) in probe.bounds(outputs).items():
            least, largest = bounds.get(name, (low, high))
            bounds[name] = (min(least, low), max(largest, high))

    ranges = measure_ranges(full, setup, names, collect)
    clip = {name: clipping_value(histograms.counts(name), ranges.largest[name], method) for name in names}
    return CalibrationTable(
        ranges,
        clip,
        kept,
        # FP16 between quantised nodes
        choose_fp32_nodes(full, FP16, ranges.largest, setup.landmarks.fp32, setup.landmarks.fp32_alone),
        bounds,
        _shifts(model, full, setup, clip, bounds, kept),
    )


def _shifts(
    model: ir.Model,
    full: Path,
    setup: MeasurementSetup,
    clip: dict[str, float],
    bounds: dict[str, Bounds],
    kept: dict[str, str],
) -> dict[str, dict[str, np.ndarray]]:
    """Measure the mean of every channel before and after rounding, for each file, and compute what biases lack."""
    files = [name for name in find_precision(setup.request.precision).files if is_correctable(name)]
    if not files:
        return {}
    grids = {
        each: {name: grid(quantised_format(each), value, bounds.get(name)) for name, value in clip.items()}
        for each in files
    }
    probe = write_means_probe(full, full.with_name("means.onnx"), grids, kept)
    sums: Means = {}
    with open_runner(probe.path, in_order=True) as runner:
        for inputs in setup.few_inputs():
            for output, mean in runner.infer(inputs).items():
                key = probe.names[output]
                sums[key] = sums.get(key, np.float64(0.0)) + mean.astype(np.float64)
    means = {key: value / setup.few for key, value in sums.items()}
    return {each: shifts(model, each, means, kept) for each in files}


def quantised(graph: ir.Model, precision: str, table: CalibrationTable) -> ir.Model:
    """Quantise a copy of the FP32 ``graph``; nodes that are not quantised get the floats of ``precision``."""
    model = graph.clone()
    if find_precision(precision).cpu_runtime == "openvino":
        write_out_group_norms(model)  # first: a convolution in front of one gets several readers, and so a bias
    quantise(model, precision, table.clip, table.kept, table.bounds)
    correct(model, {name: shift for name, shift in table.shifts.get(precision, {}).items() if name not in table.kept})
    if find_precision(precision).has_half_floats:
        to_half(model, precision, table.fp32_nodes)
    else:  # a file for CPUs, where OpenVINO may read it
        hide_affines(model)
    if find_precision(precision).cpu_runtime == "openvino":
        split_projections(model)
    return model
