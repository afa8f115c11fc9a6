"""Largest magnitudes of tensors over images of several sizes."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.tiny import exported, tampered

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.graph.mark import float_tensors, mark_outputs
from dpt_deploy.graph.precision.ranges import OUTPUT, Ranges, write_probe
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.runtime.onnxruntime import OrtRunner

SIZES = ((64, 96), (96, 64), (128, 128))


def inputs_of(artifact):
    return [model_inputs(artifact.sidecar, structured_images(1, *size, seed=seed)) for seed, size in enumerate(SIZES)]


def measured(artifact, tmp_path, order=(0, 1, 2)):
    probe = write_probe(artifact.path, tmp_path / "probe.onnx")
    ranges = Ranges(probe)
    with OrtRunner(probe.path) as runner:
        for index in order:
            ranges.add(runner.infer(inputs_of(artifact)[index])[OUTPUT])
    return ranges


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid"])
def test_the_largest_magnitude_of_every_tensor_over_all_images(name, tmp_path):
    artifact = exported(name)
    ranges = measured(artifact, tmp_path).to_dict()
    names = float_tensors(onnx.load(artifact.path))
    assert list(ranges) == ["pixel_values", *names]
    mark_outputs(artifact.path, names, tmp_path / "marked.onnx")
    with OrtRunner(tmp_path / "marked.onnx") as runner:
        runs = [runner.infer(inputs) for inputs in inputs_of(artifact)]
    for tensor in names:
        assert ranges[tensor] == pytest.approx(max(np.abs(run[tensor]).max() for run in runs), rel=1e-4), tensor


def last_readers_late(model, own):
    """Nodes of a probe that stand behind a node of the network although all that they read was there before it."""
    made = {entry.name for entry in [*model.graph.input, *model.graph.initializer]}
    waiting, late = [node for node in model.graph.node if node.name not in own], []
    for node in model.graph.node:
        if node.name in own:
            late += [each.output[0] for each in waiting if made.issuperset(each.input)]
        else:
            waiting.remove(node)
        made.update(node.output)
    return late


def test_a_tensor_is_reduced_before_the_next_node_of_the_network(tmp_path):
    artifact = exported("tiny-vit")
    own = {node.name for node in onnx.load(artifact.path).graph.node}
    sampled = float_tensors(onnx.load(artifact.path))[:50]
    probe = onnx.load(write_probe(artifact.path, tmp_path / "probe.onnx", sampled).path)
    onnx.checker.check_model(probe)
    assert last_readers_late(probe, own) == []
    moved = [node for node in probe.graph.node if node.name not in own]
    nodes = [*(node for node in probe.graph.node if node.name in own), *moved]
    del probe.graph.node[:]
    probe.graph.node.extend(nodes)
    assert len(last_readers_late(probe, own)) > len(sampled)


def test_the_order_of_the_images_does_not_matter(tmp_path):
    artifact = exported("tiny-vit")
    there, back = (measured(artifact, tmp_path, order) for order in ((0, 1, 2), (2, 0, 1)))
    assert there.to_dict() == back.to_dict()
    assert there.images == 3


def test_what_is_not_finite_is_named(tmp_path):
    artifact = tampered(exported("tiny-vit"), tmp_path, lambda graph: spoil(graph, "fusion.2.unit.conv1.bias", np.nan))
    with pytest.raises(BadFileError, match=r"'fusion.2.unit.conv1' is nan"):
        measured(artifact, tmp_path)


def spoil(model, name, value):
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), value, np.float32), name))
