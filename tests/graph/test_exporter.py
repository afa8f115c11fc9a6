"""Exported graphs: the interface they declare, the numbers they compute at sizes never seen, and what is inside."""

import getpass
import platform
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.paths import ROOT
from support.tiny import TINY, exported, tiny_model, tiny_recipe, tiny_spec

from dpt_deploy.core.recipe import Tolerance, load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.graph.analysis.describe import describe
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.axes import Axes, axes_of
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.reference import reference_outputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.verify.compare import check_reference, compare
from dpt_deploy.runtime.onnxruntime import OrtRunner

OPSETS = (23, 20)
UNSEEN = ((32, 32, 1), (64, 96, 3), (160, 64, 2), (32, 1024, 1), (1024, 32, 1))  # height, width, batch
BLOCKS = {"tiny-vit": 4, "tiny-seg": 4, "tiny-distilled": 4, "tiny-hybrid": 2, "tiny-metric": 2}
CASES = [(name, opset) for opset in OPSETS for name in TINY]
every_case = pytest.mark.parametrize(("name", "opset"), CASES)
from_the_end = pytest.mark.parametrize(("name", "opset"), CASES[::-1])  # so that two workers seldom want the same one

PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width"))
BYTES = TensorSpec("image", "uint8", ("batch", "height", "width", 3))
DEPTH = TensorSpec("predicted_depth", "float32", ("batch", "height", "width"))
LOGITS = TensorSpec("logits", "float32", ("batch", 7, "height", "width"))
LABELS = TensorSpec("labels", "int32", ("batch", "height", "width"))


def graph_of(artifact):
    return onnx.load(artifact.path).graph


def tensors(sidecar):
    return tuple(output.tensor for output in sidecar.outputs)


def measured(artifact, name, height, width, batch):
    """Compare ONNX Runtime with PyTorch on test images, with the tolerance of the recipe."""
    images = structured_images(batch, height, width, seed=5)
    with OrtRunner(artifact.path) as runner:
        (candidate,) = runner.infer(model_inputs(artifact.sidecar, images)).values()
    (output,) = artifact.sidecar.outputs
    reference = reference_outputs(tiny_model(name), artifact.sidecar, images)[output.name]
    check_reference(reference, output.kind, min_span=0.1)
    assert output.allowed == tiny_recipe(name).parity["fp32"]
    return compare(candidate, reference, output, batch=batch, size=Size(height, width))


# --- dynamic graphs ---------------------------------------------------------------------------------------------------


def test_no_size_is_traced_that_leads_to_the_network_s_own_numbers():
    spec = tiny_spec("tiny-vit")
    usual = axes_of(spec, None)
    for meant in (13, 247, 26 * 38 + 1, 11):
        assert meant in usual.traced_numbers()
        assert meant not in axes_of(spec, None, frozenset({meant})).traced_numbers()
    assert axes_of(spec, None, frozenset({7, 768})) == usual


@every_case
def test_inputs_and_outputs_are_named_typed_and_symbolic(name, opset):
    found = describe(OpenedGraph(exported(name, opset=opset).path))
    assert found.inputs == (PIXELS,)
    assert found.outputs == ((LOGITS if name == "tiny-seg" else DEPTH),)
    assert found.opset == opset


@from_the_end
def test_onnx_runtime_equals_pytorch_at_sizes_never_seen(name, opset):
    traced = Axes(stride=32).trace_size
    for height, width, batch in UNSEEN:
        assert (height, width) != (traced.height, traced.width)
        result = measured(exported(name, opset=opset), name, height, width, batch)
        assert result.passed, result


def test_the_weights_of_another_seed_would_be_noticed():
    artifact = exported("tiny-vit")
    images = structured_images(1, 64, 96)
    with OrtRunner(artifact.path) as runner:
        (candidate,) = runner.infer(model_inputs(artifact.sidecar, images)).values()
    (output,) = artifact.sidecar.outputs
    reference = reference_outputs(tiny_model("tiny-vit", 1), artifact.sidecar, images)[output.name]
    assert not compare(candidate, reference, output, batch=1, size=Size(64, 96)).passed


@every_case
def test_attention_is_one_node_a_block_at_opset_23_and_decomposed_at_20(name, opset):
    operators = Counter(node.op_type for node in graph_of(exported(name, opset=opset)).node)
    blocks = BLOCKS.get(name, 0)
    assert operators["Attention"] == (blocks if opset == 23 else 0)
    assert operators["Softmax"] == (0 if opset == 23 else blocks)


@from_the_end
def test_resizes_keep_the_corner_rule_of_each_place(name, opset):
    rules = {
        node.name: next(a.s.decode() for a in node.attribute if a.name == "coordinate_transformation_mode")
        for node in graph_of(exported(name, opset=opset)).node
        if node.op_type == "Resize"
    }
    expected = {f"fusion.{level}/Resize": "align_corners" for level in range(4)}
    expected["head/Resize"] = "half_pixel" if name == "tiny-midas" else "align_corners"
    if name in BLOCKS:
        expected["encoder.position/Resize"] = "half_pixel"
    assert {node: rule.replace("pytorch_", "") for node, rule in rules.items()} == expected


# --- what is in the file ----------------------------------------------------------------------------------------------


def traces(data):
    """List traces in a file of the machine that made it."""
    root = str(ROOT)
    telling = [root, "site-packages", ".py", "stack_trace", "pkg.torch", "Traceback"]
    telling += [name for name in (platform.node(), getpass.getuser()) if len(name) > 5]  # a short word may be weights
    return [word for word in telling if word.encode() in data]


@every_case
def test_the_file_does_not_tell_about_the_machine_that_made_it(name, opset):
    assert traces(exported(name, opset=opset).path.read_bytes()) == []


def test_a_stack_trace_would_be_noticed(tmp_path):
    model = onnx.load(exported("tiny-vit").path)
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", f'File "{__file__}", line 1'
    assert "stack_trace" in traces(model.SerializeToString())


def unused(graph):
    """Initializers that no node reads, and nodes whose outputs nobody reads."""
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    weights = [tensor.name for tensor in graph.initializer if tensor.name not in read]
    return weights + [node.name for node in graph.node if not read.intersection(node.output)]


@from_the_end
def test_no_weight_and_no_node_is_dead(name, opset):
    assert unused(graph_of(exported(name, opset=opset))) == []


def test_a_dead_weight_would_be_noticed():
    graph = graph_of(exported("tiny-vit"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3), "encoder.norm.weight"))
    assert unused(graph) == ["encoder.norm.weight"]


@every_case
def test_the_graph_holds_the_network_s_weights_once(name, opset):
    model = tiny_model(name)
    found = describe(OpenedGraph(exported(name, opset=opset).path)).parameters
    norms = sum(p.numel() for key, p in model.state_dict().items() if "running" in key or "num_batches" in key)
    total = sum(p.numel() for p in model.parameters()) + norms
    assert 0.95 * total < found < 1.02 * total  # folding drops batch norms; shape constants add a few numbers


@pytest.mark.parametrize("name", TINY)
def test_the_sidecar_repeats_what_the_graph_says(name):
    sidecar, found = exported(name).sidecar, describe(OpenedGraph(exported(name).path))
    assert (sidecar.inputs, tensors(sidecar), sidecar.opset) == (found.inputs, found.outputs, found.opset)
    assert sidecar.weights.is_random
    assert sidecar.model == tiny_recipe(name).model
    assert sidecar.parity.verified
    assert not sidecar.parity.matrix


@pytest.mark.parametrize("name", TINY)
def test_operations_are_counted_on_both_sides(name):
    operations = exported(name).sidecar.operations
    assert operations.size == "384"
    assert 0 < operations.graph <= operations.original
    assert (operations.graph == operations.original) == (name == "tiny-midas")


# --- variants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "opset"), [("tiny-vit", 23), ("tiny-hybrid", 20)])
def test_a_static_export_has_one_size_and_batch_1(name, opset):
    artifact = exported(name, opset=opset, static=Size(64, 96))
    (pixels,), (depth,) = artifact.sidecar.inputs, artifact.sidecar.outputs
    assert (pixels.shape, depth.shape) == ((1, 3, 64, 96), (1, 64, 96))
    assert measured(artifact, name, 64, 96, 1).passed
    assert "64x96" in artifact.path.name
    positions = [node for node in graph_of(artifact).node if node.name == "encoder.position/Resize"]
    assert positions == []  # positions of one size are constants: nothing is left to compute


def test_a_byte_input_is_normalised_inside_the_graph():
    artifact = exported("tiny-hybrid", input_kind="uint8")
    assert artifact.sidecar.inputs == (BYTES,)
    assert tensors(artifact.sidecar) == (DEPTH,)
    for height, width, batch in UNSEEN[:3]:
        assert measured(artifact, "tiny-hybrid", height, width, batch).passed


def test_labels_come_out_of_the_graph():
    artifact = exported("tiny-seg", output_kind="labels")
    assert tensors(artifact.sidecar) == (LABELS,)
    for height, width, batch in UNSEEN[:3]:
        result = measured(artifact, "tiny-seg", height, width, batch)
        assert result.passed
        assert result.agreement >= 1 - tiny_recipe("tiny-seg").parity["fp32"].disagreement


def test_bytes_in_and_labels_out_together():
    artifact = exported("tiny-seg", input_kind="uint8", output_kind="labels", opset=20)
    assert (artifact.sidecar.inputs, tensors(artifact.sidecar)) == ((BYTES,), (LABELS,))
    assert artifact.path.name == "tiny-seg-seg7-fp32-opset20-uint8-labels.onnx"
    assert measured(artifact, "tiny-seg", 96, 64, 2).passed


def test_every_export_has_its_own_file_name():
    names = [exported(name, opset=opset).path.name for name in TINY for opset in OPSETS]
    names += [exported("tiny-hybrid", input_kind="uint8").path.name]
    assert len(set(names)) == len(names)


def test_the_recipe_states_the_tolerance():
    recipe = load_recipe("base")
    assert recipe.parity["fp32"].max == 1e-4
    assert recipe.parity["fp32"].mean == 1e-5
    assert exported("tiny-vit").sidecar.outputs[0].tolerance == Tolerance(max=1e-4, mean=1e-5, disagreement=1e-3)
    assert replace(recipe, parity={}) != recipe
