"""From an FP32 graph to quantised ones: one calibration, several flavours, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.artifact.records import RangeRecord, WorthRecord
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.export.calibration import Calibration
from dpt_deploy.jobs.export.typed import Feed, measure_ranges, save_graph
from dpt_deploy.measure.metrics import range_error

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class CalibrationTable:
    """One calibration: the magnitude at which each tensor is clipped, the nodes that are not quantised (``kept``) and
    those that stay FP32 in a graph whose other nodes have 16 bits (``islands``), both with reasons."""

    ranges: RangeRecord
    clip: dict[str, float]
    kept: dict[str, str]
    islands: dict[str, str]


def calibrate(full: Path, calibration: Calibration, sizes: Sequence[Size], feed: Feed, method: str) -> CalibrationTable:
    """The table of the FP32 graph at ``full``; memory is that of one image and a tenth of its tensors.

    Raises:
        BadFileError: the graph is typed already, or a tensor is not finite in FP32.
        ResourceError: disk or memory.
    """
    import onnx_ir as ir

    from dpt_deploy.graph.precision.clipping import clipping_value
    from dpt_deploy.graph.precision.fp32_nodes import choose_fp32_nodes
    from dpt_deploy.graph.precision.histograms import Histograms
    from dpt_deploy.graph.precision.qdq import ends, watched

    model = ir.load(full)
    kept = ends(model)
    say(f"measuring {method} ranges on {calibration.source} at {', '.join(map(str, sizes))}")
    names = watched(model, kept)
    histograms = Histograms(names)
    ranges = measure_ranges(full, calibration, sizes, feed, histograms)
    return CalibrationTable(
        ranges,
        {name: clipping_value(histograms.counts(name), ranges.largest[name], method) for name in names},
        kept,
        choose_fp32_nodes(full, "fp16", ranges.largest),
    )


def smoothed(
    graph: ir.Model, full: Path, calibration: Calibration, sizes: Sequence[Size], feed: Feed, limit: float
) -> tuple[ir.Model, int]:
    """The FP32 ``graph``, which lies at ``full``, smoothed, and at how many norms; as it was, where that moves it.

    ``limit`` is the largest difference allowed, as a share of the output's range.
    """
    from dpt_deploy.graph.mark import mark_outputs
    from dpt_deploy.graph.passes.smooth import candidates, smooth
    from dpt_deploy.runtime.onnxruntime import OrtRunner

    names, marked, changed = candidates(graph), full.with_name("marked.onnx"), full.with_name("smooth.onnx")
    mark_outputs(full, names, marked)
    largest: dict[str, np.ndarray] = {}
    with OrtRunner(marked) as runner:
        for _size, pixels in calibration.at(sizes):
            for name, values in runner.infer(feed(pixels)).items():
                found = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
                largest[name] = np.maximum(largest.get(name, found), found)
    model = graph.clone()
    outcome = smooth(model, largest)
    save_graph(model, changed)
    _, pixels = next(calibration.at(sizes))
    with OrtRunner(full) as before, OrtRunner(changed) as after:
        (old,), (new,) = (list(runner.infer(feed(pixels)).values()) for runner in (before, after))
    moved = range_error(new, old)[0]
    if moved > limit:
        say(f"smoothing moves the output by {moved:.1e} of its range, more than {limit:.1e}: left out")
        return graph, 0
    say(f"smoothed {len(outcome.fired)} norms, {len(outcome.refused)} refused; the output moves by {moved:.1e}")
    return model, len(outcome.fired)


def quantised(graph: ir.Model, flavour: str, table: CalibrationTable) -> ir.Model:
    """A copy of the FP32 ``graph`` as ``flavour``; what is not quantised has 16 bits, for the CPU 32."""
    from dpt_deploy.graph.precision.qdq import quantise
    from dpt_deploy.graph.precision.types import to_half

    model = graph.clone()
    quantise(model, flavour, table.clip, table.kept)
    if find_precision(flavour).has_half_floats:
        to_half(model, flavour, table.islands)
    return model


def check_worth(flavour: str, worth: WorthRecord, budget: float | None, *, allow_slower: bool) -> None:
    """Raise :class:`ParityError` for a result that is broken, over ``budget``, or slower than what it replaces."""
    if not np.isfinite(worth.drift):
        raise ParityError(f"{flavour} returns numbers that are not finite", hint="see `dpt-deploy diagnose`")
    if budget is not None and worth.change > budget:
        raise ParityError(
            f"{flavour} changes the result by {worth.change:.2%}; allowed are {budget:.2%}", hint="allow more"
        )
    if worth.speedup and worth.speedup[2] < 1.0 and not allow_slower:
        raise ParityError(
            f"{flavour} is no gain: {worth.speedup[0]:.2f} times as fast as fp32 in ONNX Runtime on this machine "
            f"({worth.speedup[1]:.2f}-{worth.speedup[2]:.2f}); nothing was written",
            hint="use fp32 here; --force writes it all the same",
        )
