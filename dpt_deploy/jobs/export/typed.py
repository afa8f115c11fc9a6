"""Turn an FP32 graph into a typed one: measure ranges, choose the nodes that stay FP32, rewrite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dpt_deploy.artifact.records import RangeRecord
from dpt_deploy.artifact.store import EXTERNAL_DATA_BYTES
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.progress import say
from dpt_deploy.graph.passes.declare import declare_types
from dpt_deploy.graph.precision.fp32_nodes import choose_fp32_nodes
from dpt_deploy.graph.precision.ranges import OUTPUT, Probe, Ranges, write_probe
from dpt_deploy.graph.precision.types import to_half
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.facts import GraphFacts
from dpt_deploy.jobs.export.measurements import MeasurementSetup


def write_typed(
    graph: ir.Model, precision: str, setup: MeasurementSetup, path: Path, metadata: Mapping[str, str]
) -> GraphFacts:
    """Write a copy of the FP32 ``graph`` in a 16-bit ``precision`` to ``path``, with ``metadata``.

    Raises:
        BadFileError: the graph is typed already, or a tensor is not finite in FP32.
        ResourceError: disk or memory.
    """
    say(f"measuring ranges on {setup.calibration.source} at {', '.join(map(str, setup.sizes))}")
    with tempfile.TemporaryDirectory(dir=setup.folder) as scratch:
        full = Path(scratch) / "full.onnx"
        save_graph(graph, full)
        ranges = measure_ranges(full, setup)
        fp32_nodes = choose_fp32_nodes(
            full, precision, ranges.largest, setup.landmarks.fp32, setup.landmarks.fp32_alone
        )
    model = graph.clone()
    done = to_half(model, precision, fp32_nodes)
    save_described(model, path, metadata)
    say(f"{precision}: {done.half} nodes in 16 bits, {done.full} stay FP32, {done.casts} casts")
    return GraphFacts(fp32_nodes, ranges)


def measure_ranges(
    full: Path,
    setup: MeasurementSetup,
    sampled: Sequence[str] = (),
    collect: Callable[[Probe, dict[str, np.ndarray]], None] = lambda _probe, _outputs: None,
) -> RangeRecord:
    """Measure the largest magnitude of every tensor of the FP32 graph at ``full``; memory is that of one image.

    ``collect`` receives the outputs of the probe, with samples and bounds of each tensor of ``sampled``, once per run.

    Raises:
        BadFileError: a tensor is not finite.
    """
    probe_path = full.with_name("probe.onnx")  # next to the weights that it may refer to
    with write_errors(probe_path):
        probe = write_probe(full, probe_path, sampled)
    ranges = Ranges(probe)
    with open_runner(probe.path, in_order=True) as runner:
        for inputs in setup.calibration_inputs():
            found = runner.infer(inputs)
            ranges.add(found[OUTPUT])
            collect(probe, found)
    calibration = setup.calibration
    return RangeRecord(calibration.source, calibration.count, tuple(map(str, setup.sizes)), ranges.to_dict())


def save_described(model: ir.Model, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph that is shipped: the type of every tensor is declared, and ``metadata`` describes it."""
    declare_types(model)
    model.metadata_props.update(metadata)
    save_graph(model, path)


def save_graph(model: ir.Model, path: Path) -> None:
    """Write a graph; weights above :data:`EXTERNAL_DATA_BYTES` go into a file of their own."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    with write_errors(path):
        ir.save(model, path, external_data=f"{path.name}.data" if size > EXTERNAL_DATA_BYTES else None)
