"""Golden tensors answer the request that they are made for; the sidecar describes the file on disk."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny import exported, tiny_model, tiny_recipe

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.artifact.store import payload_of
from dpt_deploy.core.precision import PRECISIONS, find_precision
from dpt_deploy.jobs.export.assemble import describe_artifact, golden
from dpt_deploy.jobs.export.facts import GraphFacts
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.verify.golden import read_golden


def evidence(precision, name="tiny-vit"):
    request = ExportRequest(tiny_recipe(name), precision=precision)
    return golden(tiny_model(name), ir.load(exported(name).path), request)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_type_loss_is_that_of_the_requested_precision(precision):
    lost = evidence(precision).type_losses
    wanted = find_precision(precision).loss_precision
    assert {record.type for record in lost.values()} == ({wanted} if wanted else set())


def test_two_precisions_get_golden_tensors_of_their_own():
    """One after the other, from the same network: nothing of the first answer is left in the second."""
    half, quantised = evidence("fp16"), evidence("int8")
    assert half.type_losses != quantised.type_losses
    assert not np.array_equal(half.images, quantised.images)  # patterns; rendered scenes


def test_labels_have_no_type_loss_and_are_integers():
    request = ExportRequest(tiny_recipe("tiny-seg"), precision="fp16", output_kind="labels")
    graph = ir.load(exported("tiny-seg", output_kind="labels").path)
    found = golden(tiny_model("tiny-seg"), graph, request)
    assert found.type_losses == {}
    assert found.outputs["labels"].dtype == np.int32


def test_the_sidecar_describes_the_file_on_disk(tmp_path):
    source = exported("tiny-vit")
    path = tmp_path / source.path.name
    model = ir.load(source.path)
    model.graph.initializers["head.conv3.bias"].const_value = ir.tensor(np.array([3.0], np.float32))
    ir.save(model, path)
    request, facts = ExportRequest(tiny_recipe("tiny-vit")), GraphFacts(fp32_nodes={"head.conv3/Conv": "a reason"})
    made = evidence("fp32")
    sidecar = describe_artifact(path, request, source.sidecar.model, WeightsSource("random"), facts, made)
    assert sidecar.payloads[0] == payload_of(path) != source.sidecar.payloads[0]
    assert sidecar.islands == facts.fp32_nodes
    assert [payload.name for payload in sidecar.payloads] == [path.name, sidecar.golden]
    images, outputs = read_golden(path.with_name(sidecar.golden), sidecar.outputs)
    np.testing.assert_array_equal(images, made.images)
    assert set(outputs) == {output.name for output in sidecar.outputs}
    assert replace(sidecar.outputs[0], type_loss=None) == source.sidecar.outputs[0]
