"""The precisions of an engine are counted, and a name that the arithmetic contradicts is refused."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.tiny import exported

from dpt_deploy.artifact.records import AuditRecord
from dpt_deploy.core.errors import DptError, ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.engine.audit import audit_network, check_audit
from dpt_deploy.engine.builder import let_fp32_attention_decompose
from dpt_deploy.engine.callbacks import Messages
from dpt_deploy.engine.compat import load
from dpt_deploy.engine.inspection import audit_engine
from dpt_deploy.graph.analysis.activations import peak_activation_bytes
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import count_operations, operations_of_nodes
from dpt_deploy.graph.analysis.shapes import element_types

pytestmark = pytest.mark.needs("onnx")


def audited(path, operations=None):
    """The audit of a file, as the real parser reads it."""
    edition = load("tensorrt_rtx")
    trt = edition.module
    with Messages(edition) as messages:
        network = trt.Builder(messages.logger).create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        parser = trt.OnnxParser(network, messages.logger)
        assert parser.parse_from_file(str(path)), messages.errors
        let_fp32_attention_decompose(edition, network)
        return audit_network(edition, network, operations or {})


@pytest.mark.needs("tensorrt_rtx", "torch")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_all_the_arithmetic_of_a_network_is_found_again(precision):
    path, size = exported("tiny-vit", precision=precision).path, Size(64, 96)
    found = audited(path, operations_of_nodes(OpenedGraph(path), size, 2))
    assert sum(found.operations.values()) == count_operations(OpenedGraph(path), size, 2).total
    assert found.share(precision) > 0.7
    assert found.casts == sum(
        node.op_type == "Cast" for node in onnx.load(path).graph.node if _casts_floats(node, path)
    )
    check_audit(found, precision, path.name)


def _casts_floats(node, path):
    types = element_types(onnx.load(path))
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    return {types[node.input[0]], types[node.output[0]]} <= floats


@pytest.mark.needs("tensorrt_rtx", "torch")
def test_an_fp32_network_under_another_name_is_refused():
    path = exported("tiny-vit").path
    found = audited(path, operations_of_nodes(OpenedGraph(path), Size(64, 64)))
    check_audit(found, "fp32", "x")
    for name in ("fp16", "bf16", "int8", "fp8"):
        with pytest.raises(ParityError, match=f"named {name} but does 100 % of its arithmetic in fp32"):
            check_audit(found, name, "x-fp16.onnx")
        with pytest.raises(ParityError):
            check_audit(replace(found, operations={}), name, "x")  # by layers, where no arithmetic is known


# --- quantised graphs -------------------------------------------------------------------------------------------------


def quantised(path, *, weights=True):
    """A convolution between Q/DQ pairs, as an INT8 graph has it; without ``weights`` only its input is quantised."""
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(rng.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8), "w8"),
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w32"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dq"),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"], name="wdq"),
        helper.make_node("Conv", ["dq", "w" if weights else "w32"], ["y"], name="conv", kernel_shape=[3, 3]),
    ]
    graph = helper.make_graph(
        nodes if weights else [nodes[0], nodes[1], nodes[3]],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        initializer=tensors if weights else [tensors[0], tensors[1], tensors[3]],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.needs("tensorrt_rtx")
def test_a_product_of_quantised_operands_counts_as_quantised(tmp_path):
    found = audited(quantised(tmp_path / "q.onnx"), {"conv": 100})
    assert found.operations == {"int8": 100}
    assert (found.quantize, found.dequantize) == (1, 2)
    check_audit(found, "int8", "x")
    with pytest.raises(ParityError, match="named fp8 but does none of its arithmetic in fp8"):
        check_audit(found, "fp8", "x")


@pytest.mark.needs("tensorrt_rtx")
def test_a_product_of_which_one_operand_is_quantised_does_not(tmp_path):
    found = audited(quantised(tmp_path / "q.onnx", weights=False), {"conv": 100})
    assert found.operations == {"fp32": 100}
    with pytest.raises(ParityError, match="named int8"):
        check_audit(found, "int8", "x")


# --- of the built engine ----------------------------------------------------------------------------------------------


def inspected(*layers):
    return json.dumps({"Layers": [dict(zip(("LayerType", "Name", "Outputs"), layer, strict=True)) for layer in layers]})


def outputs(kind):
    return [{"Name": "t", "Format/Datatype": kind}]


def test_an_inspected_engine_is_counted_by_what_its_layers_return():
    found = audit_engine(
        inspected(
            ("gemm", "a", outputs("Half")),
            ("kgen", "b", outputs("FP16 NHWC")),
            ("kgen", "__mha", outputs("BF16")),
            ("CaskConvolution", "c", outputs("Float")),
            ("Reformat", "d", outputs("Float")),
            ("Shape", "e", outputs("Int64")),
        )
    )
    assert found == AuditRecord(
        "engine", {"fp16": 2, "bf16": 1, "fp32": 1}, {}, {"whole": 1, "decomposable": 0}, 0, 0, 1
    )
    assert found.share("fp16") == 0.5


def test_an_inspected_engine_that_is_mostly_fp32_is_refused():
    found = audit_engine(inspected(*[("gemm", "a", outputs("Float"))] * 3, ("gemm", "b", outputs("Half"))))
    with pytest.raises(ParityError, match="has 75 % of its layers in fp32"):
        check_audit(found, "fp16", "x.plan")


@pytest.mark.parametrize("text", ["", "hello", "[]", '{"Layers": 3}', '{"Layers": ["names only"]}'])
def test_what_is_no_inspection_is_reported(text):
    with pytest.raises(DptError):
        audit_engine(text)


# --- predicted memory -------------------------------------------------------------------------------------------------


def chain(path, kind=TensorProto.FLOAT):
    """x (1, 3, 64, 64) -> relu -> relu -> add of both: three tensors are alive at once."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="a"),
        helper.make_node("Reshape", ["a", "shape"], ["view"], name="view"),
        helper.make_node("Relu", ["view"], ["b"], name="b"),
        helper.make_node("Add", ["view", "b"], ["y"], name="y"),
    ]
    shape = numpy_helper.from_array(np.array([-1, 3, 64, 64]), "shape")
    value = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, value)],
        [helper.make_tensor_value_info("y", kind, value)],
        initializer=[shape],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("kind", "width"), [(TensorProto.FLOAT, 4), (TensorProto.FLOAT16, 2)])
def test_memory_is_what_is_alive_at_once_and_a_view_is_free(tmp_path, kind, width):
    found = peak_activation_bytes(OpenedGraph(chain(tmp_path / "x.onnx", kind)), Size(64, 64), 2)
    assert found == 3 * (2 * 3 * 64 * 64 * width)


@pytest.mark.needs("torch")
def test_predicted_memory_grows_with_pixels_and_batch():
    path = exported("tiny-vit").path
    small = peak_activation_bytes(OpenedGraph(path), Size(64, 64))
    assert peak_activation_bytes(OpenedGraph(path), Size(64, 64), 3) == pytest.approx(3 * small, rel=1e-3)
    assert peak_activation_bytes(OpenedGraph(path), Size(128, 128)) > 4 * small * 0.99
