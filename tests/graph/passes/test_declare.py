"""Declared types let ONNX's strict inference pass a GroupNormalization, and change nothing else."""

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, shape_inference

from dpt_deploy.graph.passes.declare import declare_types


def normalised():
    """GroupNormalization, then Relu: the smallest graph that strict inference does not get through."""
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [4], [1.0] * 4) for name in ("scale", "bias")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, "height"]) for name in ("x", "y")]
    nodes = [
        helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["n"], num_groups=2),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def test_strict_inference_needs_the_types():
    with pytest.raises(shape_inference.InferenceError, match="Input 0 expected to have type"):
        shape_inference.infer_shapes(normalised(), strict_mode=True)
    model = ir.from_proto(normalised())
    assert declare_types(model) == 1
    declared = ir.to_proto(model)
    shape_inference.infer_shapes(declared, strict_mode=True)
    onnx.checker.check_model(declared, full_check=True)
    assert [node.SerializeToString() for node in declared.graph.node] == [
        node.SerializeToString() for node in ir.to_proto(ir.from_proto(normalised())).graph.node
    ]


def test_a_type_that_is_there_stays():
    model = ir.from_proto(normalised())
    (value,) = model.graph[0].outputs
    value.type = ir.TensorType(ir.DataType.FLOAT16)
    assert declare_types(model) == 0
    assert value.type == ir.TensorType(ir.DataType.FLOAT16)
