"""Nodes of a 16-bit graph that stay FP32, and the reasons."""

import onnx
from support.tiny import exported, tiny_model

from dpt_deploy.core.precision import find_precision
from dpt_deploy.graph.precision.fp32_nodes import HEADROOM, choose_fp32_nodes


def tails_of(name):
    return tiny_model(name).landmarks.fp32


def test_raw_depth_and_every_node_after_it_stay_fp32():
    chosen = choose_fp32_nodes(exported("tiny-vit").path, "fp16", {}, tails_of("tiny-vit"))
    assert set(chosen) == {"head.conv3/Conv", "head/Relu_2", "head/Squeeze"}
    assert "thousands" in chosen["head/Relu_2"]


def test_the_metric_tail_stays_fp32():
    path = exported("tiny-metric").path
    chosen = choose_fp32_nodes(path, "fp16", {}, tails_of("tiny-metric"))
    after = [node.name for node in onnx.load(path).graph.node]
    tail = after[after.index("head.conv3/Conv") :]
    assert set(tail) == set(chosen)
    assert any(name.startswith("tail/") for name in tail)


def test_a_graph_without_named_tails_has_no_fp32_nodes():
    assert choose_fp32_nodes(exported("tiny-vit").path, "fp16", {}, {}) == {}


def test_segmentation_has_no_tail():
    assert choose_fp32_nodes(exported("tiny-seg").path, "fp16", {}, tails_of("tiny-seg")) == {}


def test_producer_and_consumers_of_a_tensor_near_the_limit_stay_fp32():
    path = exported("tiny-vit").path
    limit = find_precision("fp16").largest_float / HEADROOM
    tensor = "encoder.blocks.1.mlp.fc1"
    graph = onnx.load(path).graph
    touching = {node.name for node in graph.node if tensor in (*node.input, *node.output)}
    assert len(touching) >= 2
    tails, wide = (set(choose_fp32_nodes(path, precision, {}, tails_of("tiny-vit"))) for precision in ("fp16", "bf16"))
    assert set(choose_fp32_nodes(path, "fp16", {tensor: limit * 0.99}, tails_of("tiny-vit"))) == tails
    found = choose_fp32_nodes(path, "fp16", {tensor: limit * 1.01}, tails_of("tiny-vit"))
    assert set(found) == tails | touching
    assert f"{tensor} reaches 8.27e+03" in {found[name] for name in touching}
    assert set(choose_fp32_nodes(path, "bf16", {tensor: limit * 1.01}, tails_of("tiny-vit"))) == wide


def test_deconvolutions_stay_fp32_in_bf16_because_tensorrt_cannot_build_them():
    path = exported("tiny-vit").path
    transposed = {node.name for node in onnx.load(path).graph.node if node.op_type == "ConvTranspose"}
    assert len(transposed) == 2
    assert transposed <= set(choose_fp32_nodes(path, "bf16", {}, tails_of("tiny-vit")))
    assert not transposed & set(choose_fp32_nodes(path, "fp16", {}, tails_of("tiny-vit")))
