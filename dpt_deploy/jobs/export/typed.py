"""From an FP32 graph to a typed one: measure ranges, choose islands, rewrite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.artifact.records import RangeRecord
from dpt_deploy.artifact.store import EXTERNAL_DATA_BYTES
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.export.calibration import Calibration

if TYPE_CHECKING:
    import onnx_ir as ir

    from dpt_deploy.graph.precision.histograms import Histograms

Feed = Callable[[np.ndarray], dict[str, np.ndarray]]  # bytes (B, H, W, 3) to what the graph takes


@dataclass(frozen=True)
class TypedGraph:
    """What made a graph typed: the nodes that stayed FP32, with their reasons, and the ranges they were chosen by."""

    islands: dict[str, str]
    ranges: RangeRecord


def type_graph(
    graph: ir.Model,
    precision: str,
    calibration: Calibration,
    sizes: Sequence[Size],
    feed: Feed,
    *,
    folder: Path,
) -> TypedGraph:
    """Type an FP32 ``graph`` in place as ``precision``; ``folder`` holds files of a moment.

    Raises:
        BadFileError: the graph is typed already, or a tensor is not finite in FP32.
        ResourceError: disk or memory.
    """
    from dpt_deploy.graph.precision.fp32_nodes import choose_fp32_nodes
    from dpt_deploy.graph.precision.types import to_half

    say(f"measuring ranges on {calibration.source} at {', '.join(map(str, sizes))}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        full = Path(scratch) / "full.onnx"
        save_graph(graph, full)
        ranges = measure_ranges(full, calibration, sizes, feed)
        islands = choose_fp32_nodes(full, precision, ranges.largest)
    done = to_half(graph, precision, islands)
    say(f"{precision}: {done.half} nodes in 16 bits, {done.full} stay FP32, {done.casts} casts")
    return TypedGraph(islands, ranges)


def measure_ranges(
    full: Path,
    calibration: Calibration,
    sizes: Sequence[Size],
    feed: Feed,
    histograms: Histograms | None = None,
) -> RangeRecord:
    """The largest magnitude of every tensor over all images at all sizes; memory is that of one image.

    ``histograms`` counts a sample of each of its tensors, run by run.
    """
    from dpt_deploy.graph.precision.ranges import OUTPUT, Ranges, write_probe
    from dpt_deploy.runtime.onnxruntime import OrtRunner

    probe_path = full.with_name("probe.onnx")  # beside the weights, which it may refer to
    with write_errors(probe_path):
        probe = write_probe(full, probe_path, histograms.tensors if histograms else ())
    ranges = Ranges(probe)
    with OrtRunner(probe.path) as runner:
        for _size, pixels in calibration.at(sizes):
            found = runner.infer(feed(pixels))
            ranges.add(found[OUTPUT])
            if histograms:
                histograms.add(probe.samples(found))
    return RangeRecord(calibration.source, calibration.count, tuple(map(str, sizes)), ranges.to_dict())


def save_graph(model: ir.Model, path: Path) -> None:
    """Write a graph, its weights in a file of their own where they are large."""
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    with write_errors(path):
        ir.save(model, path, external_data=f"{path.name}.data" if size > EXTERNAL_DATA_BYTES else None)
