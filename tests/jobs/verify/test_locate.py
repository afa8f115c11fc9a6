"""Each way to spoil a graph fails ``verify`` with exit code 5, and the first wrong tensor is named after its module."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.tiny import TINY, altered, exported, tampered, tiny_model, tiny_recipe

from dpt_deploy.cli import call
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.verify.locate import locate_divergence
from dpt_deploy.jobs.verify.result import raise_on_failure
from dpt_deploy.jobs.verify.verify import verify_artifact
from dpt_deploy.model.rewrites.registry import REWRITES

SIZE = Size(64, 96)


def node_of(model, name):
    return next(node for node in model.graph.node if node.name == name)


def attribute(model, name, key, value):
    node = node_of(model, name)
    kept = [entry for entry in node.attribute if entry.name != key]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(key, value)])


def weight(model, name, change):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(change(values), name))


def flip_corners_of_a_fusion(model):
    attribute(model, "fusion.1/Resize", "coordinate_transformation_mode", "pytorch_half_pixel")


def flip_corners_of_the_head(model):
    attribute(model, "head/Resize", "coordinate_transformation_mode", "half_pixel")


def flip_corners_of_the_midas_head(model):
    attribute(model, "head/Resize", "coordinate_transformation_mode", "align_corners")


def swap_sides_of_the_positions(model):
    weight(model, "encoder.position.grid", lambda grid: np.ascontiguousarray(grid.transpose(0, 1, 3, 2)))


def cut_corners_of_the_positions(model):
    attribute(model, "encoder.position/Resize", "coordinate_transformation_mode", "align_corners")


def drop_a_readout(model):
    node = node_of(model, "reassemble.2.readout/Add")
    node.op_type = "Identity"
    del node.input[1]


def change_one_weight(model):
    def change(values):
        values[3, 5] += 1.0
        return values

    weight(model, "encoder.blocks.1.attn.qkv/MatMul:1", change)


def change_a_bias(model):
    weight(model, "fusion.2.unit.conv1.bias", lambda bias: bias + 0.1)


def approximate_gelu(model):
    attribute(model, "encoder.blocks.0.mlp.act/Gelu", "approximate", "tanh")


def widen_an_epsilon(model):
    attribute(model, "encoder.blocks.1.norm2/LayerNormalization", "epsilon", 1e-2)


def scale_attention(model):
    attribute(model, "encoder.blocks.1.attn/Attention", "scale", 0.5)


def halve_the_groups(model):
    for node in model.graph.node:
        if node.op_type == "GroupNormalization":
            entry = next(entry for entry in node.attribute if entry.name == "num_groups")
            entry.i //= 2
            return


def pad_on_the_other_side(model):
    (node,) = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.name.startswith("encoder.embed.backbone.stem")
    ]
    pads = next(entry for entry in node.attribute if entry.name == "pads")
    pads.ints[:] = [3, 3, 2, 2]


def forget_the_quirk(model):
    node = node_of(model, "fusion.3.unit/Add")
    node.input[1 if node.input[0] == "fusion.3.unit.conv2" else 0] = "neck.3"


def swap_two_classes(model):
    weight(model, "head.classifier.weight", lambda values: values[[1, 0, 2, 3, 4, 5, 6]])


def change_the_metric_tail(model):
    tails = [t for t in model.graph.initializer if t.name.startswith("tail/Mul")]
    tails[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tails[0]) * np.float32(1.01), tails[0].name))


CASES = [  # (network, what is done to its graph, the tensor that must be named)
    ("tiny-vit", flip_corners_of_a_fusion, "fusion.1"),
    ("tiny-vit", flip_corners_of_the_head, "head.conv2"),
    ("tiny-midas", flip_corners_of_the_midas_head, "head.conv2"),
    ("tiny-vit", swap_sides_of_the_positions, "encoder.position"),
    ("tiny-distilled", cut_corners_of_the_positions, "encoder.position"),
    ("tiny-vit", drop_a_readout, "reassemble.2.readout"),
    ("tiny-distilled", drop_a_readout, "reassemble.2.readout"),
    ("tiny-vit", change_one_weight, "encoder.blocks.1.attn.qkv"),
    ("tiny-conv", change_a_bias, "fusion.2.unit.conv1"),
    ("tiny-vit", approximate_gelu, "encoder.blocks.0.mlp.act"),
    ("tiny-hybrid", widen_an_epsilon, "encoder.blocks.1.norm2"),
    ("tiny-vit", scale_attention, "encoder.blocks.1.attn"),
    ("tiny-midas", forget_the_quirk, "fusion.3.unit"),
    ("tiny-seg", swap_two_classes, "head.classifier"),
    ("tiny-metric", change_the_metric_tail, "predicted_depth"),
    ("tiny-hybrid", halve_the_groups, "encoder.embed.backbone.stem.norm"),
    ("tiny-hybrid", pad_on_the_other_side, "encoder.embed.backbone.stem.conv"),
]


@pytest.mark.parametrize(("name", "change", "expected"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_spoiled_graph_fails_and_the_culprit_is_named(name, change, expected, tmp_path, capsys):
    spoiled = tampered(exported(name), tmp_path, change)
    assert call(["verify", str(spoiled.path), "--res", str(SIZE), "--batch", "1", "--json"]) == 5
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["diverges_at"]["tensor"] == expected
    assert not found["verified"]
    assert f"first tensor that diverges: {expected} " in " ".join(printed.err.split())


def test_the_failure_is_an_error_with_its_numbers(tmp_path):
    spoiled = tampered(exported("tiny-vit"), tmp_path, change_one_weight)
    verification = verify_artifact(spoiled.path, res=[SIZE], batch=[1])
    assert verification.divergence.last_good == "encoder.blocks.1.norm1"
    assert verification.divergence.max > tiny_recipe("tiny-vit").parity["fp32"].max
    with pytest.raises(ParityError, match="1 of 1 cases disagree with PyTorch, in ort; worst at size 64x96, batch 1"):
        raise_on_failure(verification)


def located(name, artifact, size=SIZE):
    output = replace(artifact.sidecar.outputs[0], tolerance=tiny_recipe(name).parity["fp32"], type_loss=None)
    return locate_divergence(artifact, tiny_model(name), 1, size, output)


@pytest.mark.parametrize("opset", [23, 20])
@pytest.mark.parametrize("name", TINY)
def test_a_healthy_graph_locates_nothing(name, opset):
    assert located(name, exported(name, opset=opset)) is None


FAMILIES = [  # (network, a legal size, weights to alter)
    ("tiny-nextvit", SIZE, "encoder.blocks.3.mlp."),  # the exporter puts integers behind the numbers of its stem
    ("tiny-levit", Size(96, 96), "encoder.blocks.4.branch."),
    ("tiny-midas-small", SIZE, "encoder.stages.5."),
    ("tiny-swin", SIZE, "encoder.stages.1.blocks.0.mlp."),
]


@pytest.mark.parametrize(("name", "size", "weights"), FAMILIES)
def test_an_altered_block_of_every_family_is_named_and_a_healthy_one_is_not(name, size, weights, tmp_path):
    assert located(name, exported(name), size) is None
    spoiled = altered(exported(name), tmp_path, weights)
    assert located(name, spoiled, size).tensor.startswith(weights.removesuffix("."))


def test_a_tensor_of_integers_that_is_called_after_a_module_loses_nothing(tmp_path):
    """Graphs of an earlier version have such names."""

    def misname(model):
        change_one_weight(model)
        shape = helper.make_node("Shape", ["pixel_values"], ["encoder.blocks.0.mlp.act"], "shape")
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"{name}.other" if name == shape.output[0] else name for name in names]
        model.graph.node.insert(0, shape)
        del model.graph.value_info[:]  # types by the old names

    assert located("tiny-vit", tampered(exported("tiny-vit"), tmp_path, misname)).tensor == "encoder.blocks.1.attn.qkv"


def test_healthy_variants_locate_nothing():
    assert located("tiny-hybrid", exported("tiny-hybrid", input_kind="uint8")) is None
    assert located("tiny-seg", exported("tiny-seg", output_kind="labels")) is None


def test_a_spoiled_graph_of_labels_is_located_too(tmp_path):
    spoiled = tampered(exported("tiny-seg", output_kind="labels"), tmp_path, change_a_bias_of_the_classifier)
    assert located("tiny-seg", spoiled).tensor == "head.classifier"


def change_a_bias_of_the_classifier(model):
    names = [t.name for t in model.graph.initializer if t.name.endswith("head.classifier.bias")]
    weight(model, names[0], lambda bias: bias + np.arange(7, dtype=np.float32))


def test_an_error_of_the_rewriting_itself_is_distinguished(monkeypatch):
    def lossy(model):
        rewritten = rewrite.apply(model)
        rewritten.reassemble[1].readout.image.bias = None
        return rewritten

    rewrite = REWRITES["fewer-operations"]
    monkeypatch.setitem(REWRITES, rewrite.name, replace(rewrite, apply=lossy))
    assert located("tiny-vit", exported("tiny-vit")).tensor == "reassemble.1 (rewritten)"


def test_nothing_is_left_behind(tmp_path):
    spoiled = tampered(exported("tiny-vit"), tmp_path, change_one_weight)
    before = sorted(tmp_path.iterdir())
    located("tiny-vit", spoiled)
    assert sorted(tmp_path.iterdir()) == before
    assert onnx.load(spoiled.path).graph.output[0].name == "predicted_depth"
