"""An artefact of a few bytes that runs: its depth is the mean of the channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from support.faults.handmade import NAME, SIDECAR

from dpt_deploy.artifact.store import Artifact, open_artifact, payload_of, write_sidecar


def depth_artifact(folder: Path, task: str = "depth") -> Artifact:
    """An artefact whose depth is three more than the mean of the channels, called a depth of ``task``."""
    path = folder / NAME
    onnx.save(_graph(), path)
    golden = path.with_name(SIDECAR.golden)
    np.savez(golden, nothing=np.zeros(1))
    model = replace(SIDECAR.model, quantity="metres", png_scale=256.0) if task == "metric-depth" else SIDECAR.model
    outputs = (replace(SIDECAR.outputs[0], task=task),)
    payloads = (payload_of(path), payload_of(golden))
    write_sidecar(path, replace(SIDECAR, model=model, outputs=outputs, payloads=payloads))
    return open_artifact(path)


def _graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "three"], ["predicted_depth"]),
    ]
    given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    found = helper.make_tensor_value_info("predicted_depth", TensorProto.FLOAT, ["batch", "height", "width"])
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]),
    ]
    graph = helper.make_graph(nodes, "mean", [given], [found], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
