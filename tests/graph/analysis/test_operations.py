"""Operations counted in a graph: small graphs counted by hand, and whole networks against PyTorch's own counter."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.tiny import TINY, exported, tampered, tiny_spec
from torch.utils.flop_counter import FlopCounterMode

from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import count_operations
from dpt_deploy.model.build import build
from dpt_deploy.model.rewrites.exact import deployable


def opened(name, **options):
    return OpenedGraph(exported(name, **options).path)


def by_pytorch(name, size, batch):
    module = deployable(build(tiny_spec(name)))
    with FlopCounterMode(display=False) as counter:
        module(torch.empty((batch, 3, size.height, size.width), device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("size", "batch"), [(Size(384, 384), 1), (Size(64, 96), 3), (Size(32, 1024), 2)], ids=str)
def test_an_exported_network_costs_what_pytorch_counts(name, size, batch):
    assert count_operations(opened(name), size, batch).total == by_pytorch(name, size, batch)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid"])
def test_decomposed_attention_costs_the_same(name):
    size = Size(96, 160)
    counted = [count_operations(opened(name, **options), size) for options in ({"opset": 20}, {})]
    assert counted[0] == counted[1]


def test_a_byte_input_and_a_static_graph_are_counted_too():
    size = Size(64, 96)
    expected = by_pytorch("tiny-hybrid", size, 1)
    assert count_operations(opened("tiny-hybrid", input_kind="uint8"), size).total == expected
    assert count_operations(opened("tiny-hybrid", opset=20, static=size), size).total == expected


@pytest.mark.parametrize(("name", "blocks"), [("tiny-vit", 4), ("tiny-hybrid", 2), ("tiny-conv", 0)])
@pytest.mark.parametrize("opset", [23, 20])
def test_the_part_of_attention_grows_with_the_square_of_the_tokens(name, blocks, opset):
    tokens, width = 1 + 4 * 6, 48
    found = count_operations(opened(name, opset=opset), Size(64, 96), batch=3)
    assert found.attention == 3 * blocks * 2 * 2 * tokens**2 * width


def test_one_convolution_more_is_counted(tmp_path):
    def add_convolution(model):
        weight = numpy_helper.from_array(np.zeros((7, 16, 1, 1), np.float32), "extra.weight")
        model.graph.initializer.append(weight)
        model.graph.node.append(helper.make_node("Conv", ["head.conv1", "extra.weight"], ["extra"]))

    artifact = exported("tiny-vit")
    more = count_operations(OpenedGraph(tampered(artifact, tmp_path, add_convolution).path), Size(64, 96)).total
    assert more - count_operations(OpenedGraph(artifact.path), Size(64, 96)).total == 2 * (32 * 48) * 16 * 7


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def counted(tmp_path, operator, shapes, **attributes):
    """Operations of one node whose first input is made from the image by a reshape."""
    values = [numpy_helper.from_array(np.zeros(shape, np.float32), f"w{i}") for i, shape in enumerate(shapes[1:])]
    shape = numpy_helper.from_array(np.array(shapes[0], np.int64), "shape")
    inputs = ["x", *[value.name for value in values]]
    if operator == "Attention":
        inputs = ["x", "x", "x"]
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "shape"], ["x"]),
        helper.make_node(operator, inputs, ["y"], **attributes),
    ]
    graph = helper.make_graph(nodes, "g", [tensor("pixel_values", 1, 3, 32, 32)], [tensor("y")], [shape, *values])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), tmp_path / "m.onnx")
    return count_operations(OpenedGraph(tmp_path / "m.onnx"), Size(32, 32)).total


ELEMENTS = 3 * 32 * 32  # of the image, reshaped to what each operator wants
CASES = {  # operator, shapes of its inputs, attributes, operations by hand
    "conv": ("Conv", [(1, 3, 32, 32), (8, 3, 3, 3)], {"pads": [1] * 4}, 2 * 32 * 32 * 8 * 27),
    "strided": ("Conv", [(1, 3, 32, 32), (8, 3, 4, 4)], {"strides": [4, 4]}, 2 * 8 * 8 * 8 * 48),
    "grouped": ("Conv", [(1, 12, 16, 16), (12, 1, 1, 1)], {"group": 12}, 2 * 16 * 16 * 12),
    "transposed": ("ConvTranspose", [(1, 3, 32, 32), (3, 5, 2, 2)], {"strides": [2, 2]}, 2 * 32 * 32 * 3 * 5 * 4),
    "product": ("MatMul", [(2, 48, 32), (32, 10)], {}, 2 * 2 * 48 * 32 * 10),
    "gemm": ("Gemm", [(96, 32), (32, 10)], {}, 2 * 96 * 32 * 10),
    "attention": ("Attention", [(1, 4, 96, 8)], {}, 2 * 2 * 4 * 96 * 96 * 8),
    "element-wise": ("Relu", [(1, 3, 32, 32)], {}, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_one_operator_costs_what_it_costs_by_hand(case, tmp_path):
    operator, shapes, attributes, expected = CASES[case]
    assert np.prod(shapes[0]) == ELEMENTS
    assert counted(tmp_path, operator, shapes, **attributes) == expected
