"""The export-time lint: good graphs pass, and each kind of bad graph is refused by name."""

import copy
import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from support.tiny import TINY, exported
from torch import nn
from torch.export import Dim

from dpt_deploy.core.errors import DptError
from dpt_deploy.core.size import Size
from dpt_deploy.graph.axes import Axes
from dpt_deploy.graph.exporter import ExportInterface, onnx_from_module
from dpt_deploy.graph.lint import LintError, findings, lint

DYNAMIC = Axes(stride=32)
TRACED = DYNAMIC.traced_numbers()
HEIGHT, WIDTH = DYNAMIC.trace_size.height, DYNAMIC.trace_size.width


@pytest.mark.parametrize("opset", [23, 20])
@pytest.mark.parametrize("name", TINY)
def test_exported_graphs_pass(name, opset):
    lint(ir.load(exported(name, opset=opset).path), TRACED)


def test_a_static_graph_may_have_its_size_baked_in():
    static = Axes(stride=32, static=Size(64, 96))
    lint(ir.load(exported("tiny-vit", static=Size(64, 96)).path), static.traced_numbers())
    assert static.traced_numbers() == frozenset()


class FixedSize(nn.Module):
    """A network of one size keeps its batch symbolic."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def forward(self, x):
        return x.mean(1).reshape(self.batch, 64 * 96).reshape(self.batch, 64, 96)


def test_a_graph_of_one_size_may_not_have_its_batch_baked_in():
    axes = Axes(stride=32, static=Size(64, 96), any_batch=True)
    interface = ExportInterface(axes, "pixel_values", ("predicted_depth",))
    (output,) = onnx_from_module(FixedSize(-1).eval(), interface).graph.outputs
    assert [str(dim) for dim in output.shape] == ["batch", "64", "96"]
    with pytest.raises(DptError):
        onnx_from_module(FixedSize(axes.trace_batch).eval(), interface)


# --- modules that bake sizes ------------------------------------------------------------------------------------------


class BakedResize(nn.Module):
    """The bug of every rival: a size read while tracing becomes a Python integer."""

    def forward(self, x):
        small = F.interpolate(x, size=(HEIGHT // 16, WIDTH // 16), mode="bilinear")
        return F.interpolate(small, size=x.shape[2:], mode="bilinear")[:, 0]


class BakedReshape(nn.Module):
    """Tokens to a map with the traced grid, whatever the batch."""

    def forward(self, x):
        tokens = F.adaptive_avg_pool2d(x, (HEIGHT // 16, WIDTH // 16)).flatten(2)
        small = tokens.reshape(x.shape[0], 3, HEIGHT // 16, WIDTH // 16)
        return F.interpolate(small, size=x.shape[2:], mode="bilinear")[:, 0]


class Honest(nn.Module):
    def forward(self, x):
        small = F.avg_pool2d(x, 2).mean(1, keepdim=True)
        return F.interpolate(small, size=x.shape[2:], mode="bilinear")[:, 0]


def export(module):
    return onnx_from_module(module.eval(), ExportInterface(DYNAMIC, "pixel_values", ("predicted_depth",)))


def test_a_module_that_keeps_its_sizes_symbolic_is_exported():
    model = export(Honest())
    assert [str(dim) for dim in model.graph.outputs[0].shape] == ["batch", "height", "width"]


@pytest.mark.parametrize("module", [BakedResize(), BakedReshape()], ids=lambda m: type(m).__name__)
def test_a_size_baked_in_by_hand_is_refused(module):
    with pytest.raises(LintError, match="size baked into"):
        export(module)


def test_hugging_face_s_own_export_is_refused():
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle (pip install -e '.[oracle]')")
    side = 13 * 32
    config = transformers.DPTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=side,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 12, 16, 20],
        fusion_hidden_size=16,
    )
    model = transformers.DPTForDepthEstimation(config).eval()
    program = hugging_face_program(model, side)
    sides = {side // 2**level for level in range(6)} | {(side // 16) ** 2, (side // 16) ** 2 + 1}
    found = list(findings(program, frozenset(sides)))
    assert [finding for finding in found if finding.startswith("size baked into")]


def hugging_face_program(model, side):
    """The export its users write: dynamic axes asked for, and the traced size inside all the same."""
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            opset_version=20,
            dynamic_shapes={"pixel_values": dict.fromkeys((0, 2, 3), Dim.AUTO)},
            verbose=False,
        )
    return program.model


@pytest.mark.parametrize(("length", "baked"), [(HEIGHT // 16, True), (HEIGHT // 16 - 1, False)])
def test_a_list_of_indices_tells_by_its_length(length, baked):
    """Any number may stand in it; a list that was made for the traced size has as many entries as that size."""
    proto = copy.deepcopy(onnx.load(exported("tiny-vit").path))
    values = np.arange(100, 100 + 2 * length, 2)
    assert TRACED & set(map(int, values))
    proto.graph.initializer.append(numpy_helper.from_array(values, "indices"))
    proto.graph.node.append(
        helper.make_node("Gather", ["head.conv3", "indices"], ["taken"], name="head/Gather", axis=2)
    )
    found = [finding for finding in findings(ir.from_proto(proto), TRACED) if "head/Gather" in finding]
    assert found == ([f"size baked into Gather (head/Gather): {length}"] if baked else [])


# --- graphs with one thing wrong --------------------------------------------------------------------------------------


def spoiled(change):
    proto = copy.deepcopy(onnx.load(exported("tiny-vit").path))
    change(proto)
    return ir.from_proto(proto)


def add_float64_weight(proto):
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "wide"))


def add_float64_cast(proto):
    proto.graph.node.append(helper.make_node("Cast", ["head.conv3"], ["wide"], name="head/Cast", to=TensorProto.DOUBLE))


def add_if(proto):
    branch = helper.make_graph([], "branch", [], [])
    yes = numpy_helper.from_array(np.array(True), "yes")
    proto.graph.initializer.append(yes)
    proto.graph.node.append(
        helper.make_node("If", ["yes"], [], name="head/If", then_branch=branch, else_branch=copy.deepcopy(branch))
    )


def add_loop(proto):
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("Loop", ["", ""], [], name="head/Loop", body=body))


def add_foreign_operator(proto):
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node = helper.make_node("FusedConv", ["head.conv3"], ["fused"], name="head/FusedConv", domain="com.microsoft")
    proto.graph.node.append(node)


def add_unknown_operator(proto):
    proto.graph.node.append(helper.make_node("Interpolate", ["head.conv3"], ["far"], name="head/Interpolate"))


def add_operator_of_a_later_opset(proto):
    proto.opset_import[0].version = 20  # the graph holds Attention, which came with 23


def add_local_function(proto):
    proto.opset_import.append(helper.make_opsetid("local", 1))
    node = helper.make_node("Relu", ["a"], ["b"])
    proto.functions.append(helper.make_function("local", "Mine", ["a"], ["b"], [node], proto.opset_import[:1]))


def fix_batch(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def fix_width(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = WIDTH


def forget_shape(proto):
    proto.graph.output[0].type.tensor_type.ClearField("shape")


def bake_grid(proto):
    resize = next(node for node in proto.graph.node if node.name == "encoder.position/Resize")
    grid = np.array([1, 48, HEIGHT // 16, WIDTH // 16], np.int64)
    proto.graph.initializer.append(numpy_helper.from_array(grid, "grid"))
    resize.input[3] = "grid"


BAD = [
    (add_float64_weight, r"initializer 'wide' is DOUBLE"),
    (add_float64_cast, r"cast to float64 \(head/Cast\)"),
    (add_if, r"control flow: If \(head/If\)"),
    (add_loop, r"control flow: Loop \(head/Loop\)"),
    (add_foreign_operator, r"unknown operator com.microsoft::FusedConv"),
    (add_unknown_operator, r"operator Interpolate \(head/Interpolate\) is not in opset 23"),
    (add_operator_of_a_later_opset, r"operator Attention .* is not in opset 20"),
    (add_local_function, r"local function local::Mine"),
    (fix_batch, r"'pixel_values' has a fixed batch of 1"),
    (forget_shape, r"'predicted_depth' has no shape"),
    (fix_width, r"'pixel_values' has a fixed width of 608"),
    (bake_grid, r"size baked into Resize \(encoder.position/Resize\): 26, 38"),
]


@pytest.mark.parametrize(("change", "finding"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_a_graph_with_one_thing_wrong_is_refused_and_the_thing_named(change, finding):
    with pytest.raises(LintError, match=finding) as caught:
        lint(spoiled(change), TRACED)
    assert re.search(finding, caught.value.findings[0])
    assert isinstance(caught.value, DptError)


def test_many_findings_are_cut_in_the_message_and_whole_on_the_error():
    error = LintError([f"finding {index}" for index in range(9)])
    assert "finding 4; and 4 more" in str(error)
    assert len(error.findings) == 9


def test_the_traced_size_cannot_be_mistaken_for_a_channel_count():
    channels = {3, 32, 48, 64, 96, 128, 150, 192, 256, 384, 512, 768, 1024, 2048, 2304, 3072, 4096}
    assert not TRACED & channels
    assert {HEIGHT, WIDTH, HEIGHT // 16, WIDTH // 16, HEIGHT // 16 * (WIDTH // 16) + 1} <= TRACED
