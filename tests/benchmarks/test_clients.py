"""The survey of other software: healthy files are right, and a file that is computed wrong is called so."""

import json
import os
import signal
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.scripts import load_script
from support.tiny import copied, exported, tampered

clients = load_script("clients")
pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2", "openvino")
NAMES = ("onnxruntime", "onnxruntime-as-written", "openvino", "opencv", "onnx")


@pytest.mark.parametrize("name", NAMES)
def test_a_healthy_file_is_right_in_every_client(name):
    row = clients.compared(clients.CLIENTS[name][0], exported("tiny-vit").path)
    assert row["verdict"] == "right", row


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_8_bits_are_right_in_the_runtimes(name):
    artifact = exported("tiny-vit", precision="int8")
    row = clients.compared(clients.CLIENTS[name][0], artifact.path)
    assert row["mean"] <= artifact.sidecar.outputs[0].tolerance.mean  # a random network: more than a trained one loses


def test_a_file_that_is_computed_wrong_is_noticed(tmp_path):
    def halve(model):
        tensor = next(each for each in model.graph.initializer if each.name == "fusion.0.out_conv.weight")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) / 2, tensor.name))

    spoiled = tampered(exported("tiny-vit"), tmp_path, halve)
    assert clients.compared(clients.CLIENTS["onnxruntime"][0], spoiled.path)["verdict"] == "wrong"


def test_a_client_that_fails_leaves_its_message():
    def fails(*_):
        raise RuntimeError("no such operator")

    row = clients.compared(fails, exported("tiny-vit").path)
    assert (row["verdict"], row["message"]) == ("fails", "no such operator")
    assert "shape" in clients.differences(np.zeros((1, 2)), np.zeros((1, 3)))["message"]


def test_a_client_that_crashes_leaves_its_exit_status():
    row = clients.compared_apart(lambda *_: os.kill(os.getpid(), signal.SIGKILL), exported("tiny-vit").path)
    assert (row["file"], row["verdict"]) == ("tiny-vit-fp32", "fails")
    assert row["message"] == f"the process ended with {-signal.SIGKILL}"


def test_a_client_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(clients, "PATIENCE", 0.2)
    row = clients.compared_apart(lambda *_: time.sleep(60), exported("tiny-vit").path)
    assert (row["verdict"], row["message"]) == ("fails", "no answer in 0.2 s")


def small_steps(path):
    """A convolution of 8-bit floats; its bias of 1 over the product of its two steps is more than FP16 can hold."""
    nodes = [
        ("Cast", ["x"], ["half"], {"to": TensorProto.FLOAT16}),
        ("QuantizeLinear", ["half", "step", "zero"], ["narrow"], {}),
        ("DequantizeLinear", ["narrow", "step", "zero"], ["a"], {}),
        ("DequantizeLinear", ["weight", "step", "zero"], ["w"], {}),
        ("Conv", ["a", "w", "bias"], ["summed"], {}),
        ("Relu", ["summed"], ["positive"], {}),
        ("QuantizeLinear", ["positive", "wide", "zero"], ["stored"], {}),
        ("DequantizeLinear", ["stored", "wide", "zero"], ["restored"], {}),
        ("Cast", ["restored"], ["y"], {"to": TensorProto.FLOAT}),
    ]
    constants = [
        helper.make_tensor("step", TensorProto.FLOAT16, [], [1e-3]),
        helper.make_tensor("wide", TensorProto.FLOAT16, [], [1 / 64]),
        helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0]),
        helper.make_tensor("weight", TensorProto.FLOAT8E4M3FN, [1, 1, 1, 1], [8.0]),
        helper.make_tensor("bias", TensorProto.FLOAT16, [1], [1.0]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **attributes) for kind, ins, outs, attributes in nodes],
        "small",
        ends[:1],
        ends[1:],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_onnx_runtime_loses_biases_where_it_rewrites_pairs(tmp_path):
    """Once it does not, the runners may leave its rewriting on."""
    small_steps(tmp_path / "small.onnx")
    pixels = np.full((1, 1, 2, 2), 0.01, np.float32)
    found = [
        clients.onnxruntime(tmp_path / "small.onnx", "x", pixels, rewrites_pairs=on).mean() for on in (False, True)
    ]
    assert found[0] == pytest.approx(1, abs=0.1)
    assert abs(found[1] - 1) > 0.5 or not np.isfinite(found[1])


def test_rows_of_a_client_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setitem(clients.CLIENTS, "onnxruntime", (lambda *_: np.zeros(1), "onnxruntime"))
    artifact, target = copied(exported("tiny-vit"), tmp_path / "files"), tmp_path / "result.json"
    for _ in range(2):
        clients.main(target, artifact.path.parent, "onnxruntime")
    rows = json.loads(target.read_text())["rows"]
    assert [(row["file"], row["verdict"]) for row in rows] == [("tiny-vit-fp32", "fails")]
