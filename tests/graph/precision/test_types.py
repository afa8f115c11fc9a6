"""Typed graphs: every tensor has the type it should, casts stand where types meet, and nothing else changes."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.tiny import TINY, exported

from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError
from dpt_deploy.graph.analysis.shapes import element_types
from dpt_deploy.graph.precision.types import is_typed, to_half

HALF = ("fp16", "bf16")
KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def loaded(name):
    return ir.load(exported(name).path)


def written(model, tmp_path):
    path = tmp_path / "typed.onnx"
    ir.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return onnx.load(path)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", TINY)
def test_all_of_it_is_typed_but_for_its_ends(name, precision, tmp_path):
    before = onnx.load(exported(name).path)
    model = loaded(name)
    done = to_half(model, precision)
    after = written(model, tmp_path)
    assert list(map(str, before.graph.input)) == list(map(str, after.graph.input))
    assert [value.name for value in after.graph.output] == [value.name for value in before.graph.output]
    assert {value.type.tensor_type.elem_type for value in after.graph.output} == {TensorProto.FLOAT}
    types = element_types(after)
    wide = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    ends = {value.name for value in (*after.graph.input, *after.graph.output)}
    scales = {node.input[2] for node in after.graph.node if node.op_type == "Resize"}
    assert wide <= ends | scales
    assert done.full == 0
    assert done.casts == len(after.graph.input) + len(after.graph.output)
    assert len(after.graph.node) == len(before.graph.node) + done.casts


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid"])
def test_norms_add_up_in_fp32(name, tmp_path):
    model = loaded(name)
    to_half(model, "fp16")
    after = written(model, tmp_path).graph.node
    norms = [node for node in after if node.op_type in ("LayerNormalization", "GroupNormalization")]
    assert norms
    for node in norms:
        (value,) = [entry.i for entry in node.attribute if entry.name == "stash_type"]
        assert value == TensorProto.FLOAT
    # TensorRT's parser refuses an Attention node that says how its softmax is to be computed.
    attention = [entry.name for node in after if node.op_type == "Attention" for entry in node.attribute]
    assert attention
    assert "softmax_precision" not in attention


def test_an_fp32_node_computes_in_fp32_and_each_value_is_cast_once(tmp_path):
    model = loaded("tiny-vit")
    block = [node.name for node in model.graph if node.name.startswith("encoder.blocks.1.mlp")]
    done = to_half(model, "fp16", block)
    after = written(model, tmp_path)
    types = element_types(after)
    inside = [node for node in after.graph.node if node.name in block]
    assert len(inside) == len(block) == done.full
    assert {types[name] for node in inside for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
    cast = [node.input[0] for node in after.graph.node if node.op_type == "Cast"]
    assert len(cast) == len(set(cast)) == 4  # the graph's two ends, into the block and out of it


def test_a_value_that_both_sides_use_is_there_in_both_types(tmp_path):
    model = loaded("tiny-vit")
    residual = next(node for node in model.graph if node.op_type == "Add" and len(node.outputs[0].uses()) > 1)
    user = residual.outputs[0].uses()[0].node
    to_half(model, "bf16", [user.name])
    after = written(model, tmp_path)
    types = element_types(after)
    name = residual.outputs[0].name
    users = {node.name: types[entry] for node in after.graph.node for entry in node.input if entry.startswith(name)}
    assert set(users.values()) == {TensorProto.FLOAT, TensorProto.BFLOAT16}


@pytest.mark.parametrize("precision", HALF)
def test_weights_are_rounded_to_nearest_and_large_ones_saturate(precision, tmp_path):
    model = loaded("tiny-vit")
    weight = model.graph.initializers["fusion.0.unit.conv1.weight"]
    numbers = weight.const_value.numpy().copy()
    numbers.flat[0] = -3.4e38 if precision == "bf16" else -1e6
    weight.const_value = ir.Tensor(numbers)
    to_half(model, precision)
    after = written(model, tmp_path)
    (found,) = [tensor for tensor in after.graph.initializer if tensor.name.startswith("fusion.0.unit.conv1.weight")]
    assert found.data_type == KINDS[precision]
    kind = ir.DataType(KINDS[precision]).numpy()
    values = numpy_helper.to_array(found).astype(np.float32)
    assert np.isfinite(values).all()
    assert values.flat[0] == -float(ir.DataType(KINDS[precision]).max)
    np.testing.assert_array_equal(values.flat[1:], numbers.flat[1:].astype(kind).astype(np.float32))


def test_a_typed_graph_is_not_typed_again():
    model = loaded("tiny-vit")
    assert not is_typed(model)
    to_half(model, "fp16")
    assert is_typed(model)
    with pytest.raises(BadFileError, match="typed already"):
        to_half(model, "bf16")


def test_an_unknown_fp32_node_is_named():
    with pytest.raises(BadFileError, match=r"no node 'encoder\.blocks\.99'"):
        to_half(loaded("tiny-vit"), "fp16", ["encoder.blocks.99"])


def small(*nodes, outputs=("y",), initializers=()):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in outputs],
        initializer=initializers,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))


def test_casts_and_constants_of_the_graph_follow(tmp_path):
    shape = numpy_helper.from_array(np.array([2], np.int64), "shape")
    value = numpy_helper.from_array(np.array([0.1], np.float32))
    model = small(
        helper.make_node("ConstantOfShape", ["shape"], ["c"], name="c", value=value),
        helper.make_node("Add", ["x", "c"], ["s"], name="s"),
        helper.make_node("Cast", ["s"], ["i"], name="i", to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["y"], name="y", to=TensorProto.FLOAT),
        initializers=[shape],
    )
    to_half(model, "fp16")
    types = element_types(written(model, tmp_path))
    assert (types["c"], types["s"], types["i"]) == (TensorProto.FLOAT16, TensorProto.FLOAT16, TensorProto.INT32)


def test_a_graph_that_returns_its_input_and_an_intermediate_value(tmp_path):
    model = small(
        helper.make_node("Relu", ["x"], ["y"], name="first"),
        helper.make_node("Relu", ["y"], ["z"], name="second"),
        outputs=("y", "z"),
    )
    to_half(model, "fp16")
    after = written(model, tmp_path)
    assert [value.name for value in after.graph.output] == ["y", "z"]
    assert [element_types(after)[name] for name in ("y", "z", "x")] == [TensorProto.FLOAT] * 3


@pytest.mark.parametrize(("operator", "refused"), [("Celu", ("fp16", "bf16")), ("LpNormalization", ())])
@pytest.mark.parametrize("precision", HALF)
def test_an_operator_without_the_type_is_named_with_the_fp32_node_that_would_do(operator, refused, precision, tmp_path):
    def graph():
        odd = helper.make_node(operator, ["r"], ["y"], name="odd")
        return small(helper.make_node("Relu", ["x"], ["r"], name="first"), odd)

    model = graph()
    if precision not in refused:
        assert to_half(model, precision).half == 2
        return
    with pytest.raises(IncompatibleError, match=rf"{operator} \(odd\) does not exist in {precision} in ONNX") as caught:
        to_half(model, precision)
    assert "the node 'odd'" in caught.value.hint
    assert not is_typed(model)  # nothing was begun
    to_half(model, precision, ["odd"])
    assert element_types(written(model, tmp_path))["r"] == KINDS[precision]


def test_what_turns_numbers_into_decisions_is_refused():
    model = small(
        helper.make_node("Greater", ["x", "x"], ["b"], name="compare"),
        helper.make_node("Cast", ["b"], ["y"], name="y", to=TensorProto.FLOAT),
    )
    with pytest.raises(DptError, match=r"Greater \(compare\)"):
        to_half(model, "fp16")
