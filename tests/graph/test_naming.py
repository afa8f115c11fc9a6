"""Nodes and tensors of a graph are named after the modules they come from; names reveal nothing else."""

import re

import onnx
import onnx_ir as ir
import pytest
import torch
from support.tiny import TINY, exported, tiny_model
from torch import nn

from dpt_deploy.graph.naming import MODULE_KEY, name_after_modules
from dpt_deploy.jobs.export.metadata import PREFIX
from dpt_deploy.model.rewrites.exact import deployable


def graph_of(name, **options):
    return onnx.load(exported(name, **options).path).graph


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("opset", [23, 20])
def test_every_node_is_called_after_its_module_and_operator(name, opset):
    modules = {path for path, _ in deployable(tiny_model(name)).named_modules()}
    for node in graph_of(name, opset=opset).node:
        module, operator = node.name.split("/")
        assert module in modules
        assert re.fullmatch(rf"{node.op_type}(_\d+)?", operator)


@pytest.mark.parametrize("name", TINY)
def test_names_are_unique(name):
    graph = graph_of(name)
    names = [node.name for node in graph.node]
    tensors = [output for node in graph.node for output in node.output] + [value.name for value in graph.initializer]
    assert len(set(names)) == len(names)
    assert len(set(tensors)) == len(tensors)


@pytest.mark.parametrize("name", TINY)
def test_the_outputs_of_the_parts_carry_their_names(name):
    graph = graph_of(name)
    tensors = {output for node in graph.node for output in node.output}
    parts = [f"{part}.{level}" for part in ("neck", "fusion") for level in range(4)] + ["head.conv3"]
    parts += ["head.conv1", "head.conv2"]
    if name == "tiny-seg":
        parts = [*parts[:-3], "head.classifier"]
    assert not [part for part in parts if part not in tensors]


def test_a_name_means_the_output_of_that_module():
    last = {output: node.op_type for node in graph_of("tiny-vit").node for output in node.output}
    expected = {
        "encoder.blocks.2": "Add",
        "encoder.blocks.2.attn.qkv": "Add",
        "encoder.blocks.2.norm1": "LayerNormalization",
        "reassemble.0.readout": "Gelu",
        "reassemble.0.projection": "Add",
        "reassemble.0": "ConvTranspose",
        "fusion.1": "Resize",
        "fusion.1.unit": "Add",
    }
    assert {name: last.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", TINY)
def test_parameters_keep_their_names_and_derived_constants_are_named_after_their_reader(name):
    graph = graph_of(name)
    parameters = set(deployable(tiny_model(name)).state_dict())
    first_reader = {}
    for node in graph.node:
        for index, tensor in enumerate(node.input):
            first_reader.setdefault(tensor, f"{node.name}:{index}")
    for tensor in graph.initializer:
        assert tensor.name in parameters or tensor.name == first_reader[tensor.name]


@pytest.mark.parametrize("name", TINY)
def test_no_metadata_but_our_own_is_left(name):
    model = onnx.load(exported(name).path)
    assert all(entry.key.startswith(PREFIX) for entry in model.metadata_props)
    assert not model.graph.metadata_props
    assert not model.doc_string
    assert not [node for node in model.graph.node if node.doc_string]
    assert {entry.key for node in model.graph.node for entry in node.metadata_props} == {MODULE_KEY}
    values = [*model.graph.input, *model.graph.output, *model.graph.initializer]
    assert not [value for value in values if value.metadata_props]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
        self.second = nn.Linear(5, 2)

    def forward(self, x):
        return self.second(self.first(x))


def test_what_the_exporter_leaves_behind_is_replaced():
    with torch.no_grad():
        program = torch.onnx.export(Pair().eval(), (torch.zeros(1, 4),), dynamo=True, opset_version=20, verbose=False)
    raw = ir.to_proto(program.model).SerializeToString()
    assert b"stack_trace" in raw  # the exporter does tell where the module's source lies
    name_after_modules(program.model)
    named = ir.to_proto(program.model)
    assert b"stack_trace" not in named.SerializeToString()
    assert [node.name for node in named.graph.node] == ["first.0/Gemm", "first.1/Relu", "second/Gemm"]
    assert named.graph.node[1].output[0] == "first"  # the outermost module that ends there


def test_integers_behind_the_numbers_of_a_module_do_not_take_its_name():
    """The exporter places sizes of the next map there, in Next-ViT's stem."""
    x = ir.val("x", ir.DataType.FLOAT, [1, 2])
    numbers = ir.node("Relu", [x], outputs=[ir.val("a", ir.DataType.FLOAT, [1, 2])])
    size = ir.node("Shape", numbers.outputs, outputs=[ir.val("b", ir.DataType.INT64, [2])])
    last = ir.node("Reshape", [x, size.outputs[0]], outputs=[ir.val("y", ir.DataType.FLOAT, None)])
    for node, scope in ((numbers, "stem.act"), (size, "stem.act"), (last, "")):
        node.metadata_props["pkg.torch.onnx.name_scopes"] = repr(["", *filter(None, [scope]), "operator"])
    graph = ir.Graph([x], last.outputs, nodes=[numbers, size, last], opset_imports={"": 20}, name="integers")
    name_after_modules(ir.Model(graph, ir_version=10))
    assert (numbers.outputs[0].name, size.outputs[0].name) == ("stem.act", "stem.act/Shape")


def test_variants_keep_the_names_of_the_plain_graph():
    plain, variant = (
        onnx.load(exported("tiny-seg", **options).path)
        for options in ({}, {"input_kind": "uint8", "output_kind": "labels"})
    )
    names = [{node.name for node in model.graph.node} for model in (plain, variant)]
    weights = [{tensor.name for tensor in model.graph.initializer} for model in (plain, variant)]
    assert {name for name in names[0] if not name.startswith("/")} <= names[1]
    assert {name for name in weights[0] if not name.startswith("/")} <= weights[1]
    assert "/ArgMax" in names[1] - names[0]
