"""An artefact with two outputs, made by hand: depth, and a task that the program has never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from support.faults.handmade import SIDECAR

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact, payload_of, write_sidecar
from dpt_deploy.core.task import Task
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.verify.golden import golden_arrays

CONFIDENCE = Task(
    name="confidence",
    output="predicted_confidence",
    shape=("batch", "height", "width"),
    values="numbers",
    resample="restore",
    compare="range",
    drift="range",
    formats=("pfm",),
    palette="viridis",
)
DEPTH_NAME, CONFIDENCE_NAME = "predicted_depth", CONFIDENCE.output
SHAPE = ("batch", "height", "width")


def two_outputs(folder: Path, *, spoiled: str = "", half: bool = False, overflows: str = "") -> Artifact:
    """The artefact in ``folder``, with golden tensors; those of the output ``spoiled`` are wrong.

    ``half``: it computes in FP16, in which the values of the output ``overflows`` do not fit on their way.
    """
    precision = "fp16" if half else "fp32"
    path = folder / f"two-{precision}.onnx"
    onnx.save(_half_graph(overflows) if half else _graph(), path)
    tolerance = replace(SIDECAR.outputs[0].tolerance, **({"max": 1e-2, "mean": 1e-3} if half else {}))
    sidecar = replace(
        SIDECAR,
        precision=precision,
        outputs=(
            OutputRecord(DEPTH_NAME, "float32", SHAPE, "depth", tolerance),
            OutputRecord(CONFIDENCE_NAME, "float32", SHAPE, CONFIDENCE.name, tolerance),
        ),
        golden=f"{path.name}.golden.npz",
    )
    _write_golden(path, sidecar, spoiled)
    files = (path, path.with_name(sidecar.golden))
    write_sidecar(path, replace(sidecar, payloads=tuple(payload_of(file) for file in files)))
    return open_artifact(path)


def _graph() -> onnx.ModelProto:
    """Depth is the mean of the channels, confidence the largest of them."""
    nodes = [
        helper.make_node(kind, ["pixel_values", "axes"], [name], keepdims=0)
        for kind, name in (("ReduceMean", DEPTH_NAME), ("ReduceMax", CONFIDENCE_NAME))
    ]
    given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in (DEPTH_NAME, CONFIDENCE_NAME)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "two", [given], found, [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _half_graph(overflows: str) -> onnx.ModelProto:
    """The same graph in FP16, each output with a factor and its inverse on the way."""
    graph = _graph()
    reductions = list(graph.graph.node)
    del graph.graph.node[:]
    nodes = [helper.make_node("Cast", ["pixel_values"], ["narrow"], "narrow/Cast", to=TensorProto.FLOAT16)]
    for reduction in reductions:
        (name,) = reduction.output
        times = 1024.0 if name == overflows else 2.0
        given = "narrow"
        for way, factor in (("up", times), ("higher", times), ("lower", 1 / times), ("down", 1 / times)):
            graph.graph.initializer.append(numpy_helper.from_array(np.float16(factor), f"{name}.{way}.factor"))
            nodes.append(helper.make_node("Mul", [given, f"{name}.{way}.factor"], [f"{name}.{way}"], f"{name}/{way}"))
            given = f"{name}.{way}"
        ends = [given, "axes"], [f"{name}.half"]
        nodes.append(helper.make_node(reduction.op_type, *ends, f"{name}/reduce", keepdims=0))
        nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}/Cast", to=TensorProto.FLOAT))
    graph.graph.node.extend(nodes)
    return graph


def _write_golden(path: Path, sidecar: Sidecar, spoiled: str) -> None:
    images = structured_images(2, 64, 96)
    names = [output.name for output in sidecar.outputs]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = dict(zip(names, session.run(names, model_inputs(sidecar, images)), strict=True))
    if spoiled:
        outputs[spoiled] = outputs[spoiled] + np.float32(1)
    np.savez_compressed(path.with_name(sidecar.golden), **golden_arrays(images, outputs))
