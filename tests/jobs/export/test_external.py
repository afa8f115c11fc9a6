"""Weights in a file of their own, as for a model above the size limit; the limit is lowered for a tiny one."""

import numpy as np
import onnx
import pytest
from support.tiny import copied, exported, recommitted, tiny_model, tiny_recipe
from support.traces import traces_kept

from dpt_deploy.artifact.store import open_artifact, sha256_of
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.describe import describe
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.export import export
from dpt_deploy.jobs.export import typed as precision
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.verify.locate import locate_divergence
from dpt_deploy.runtime.onnxruntime import OrtRunner

SIZE = Size(64, 96)


@pytest.fixture(scope="module")
def external(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "EXTERNAL_DATA_BYTES", 1000)
        request = ExportRequest(tiny_recipe("tiny-vit"), weights="random")
        with traces_kept():
            return export.export_model(request, tmp_path_factory.mktemp("external")).artifact


def data_of(artifact):
    return artifact.path.with_name(artifact.path.name + ".data")


def test_weights_are_in_a_file_of_their_own_that_is_hashed(external):
    payloads = {payload.name: payload for payload in external.sidecar.payloads}
    assert set(payloads) == {external.path.name, data_of(external).name, external.golden_path.name}
    assert payloads[data_of(external).name].sha256 == sha256_of(data_of(external))
    assert data_of(external).stat().st_size > 4 * external.path.stat().st_size
    assert open_artifact(external.path).sidecar == external.sidecar


def test_the_graph_refers_to_the_file_by_its_name_alone(external):
    graph = onnx.load(external.path, load_external_data=False).graph
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    assert places == {data_of(external).name}


def test_below_the_limit_there_is_one_file():
    assert not data_of(exported("tiny-vit")).exists()


def test_it_computes_the_same_in_any_folder(external, tmp_path):
    inputs = model_inputs(external.sidecar, structured_images(2, 64, 96))
    outputs = []
    for artifact in (copied(external, tmp_path / "moved"), exported("tiny-vit")):
        with OrtRunner(artifact.path) as runner:
            outputs.append(runner.infer(inputs)["predicted_depth"])
    np.testing.assert_array_equal(*outputs)


def test_it_is_described_and_counted_like_a_single_file(external):
    found, single = describe(OpenedGraph(external.path)), describe(OpenedGraph(exported("tiny-vit").path))
    assert (found.parameters, found.weight_bytes, found.operators) == (
        single.parameters,
        single.weight_bytes,
        single.operators,
    )
    assert external.sidecar.operations == exported("tiny-vit").sidecar.operations


def test_it_is_verified_and_a_changed_weight_is_located(external, tmp_path, capsys):
    artifact = copied(external, tmp_path)
    assert call(["verify", str(artifact.path), "--res", str(SIZE), "--batch", "2"]) == 0
    change(artifact, "fusion.2.unit.conv1.weight")
    assert call(["verify", str(artifact.path), "--res", str(SIZE), "--batch", "2"]) == 4  # its hash is off
    assert call(["verify", str(recommitted(artifact).path), "--res", str(SIZE), "--batch", "2"]) == 5
    assert "first tensor that diverges: fusion.2.unit.conv1 " in " ".join(capsys.readouterr().err.split())


def change(artifact, weight):
    """Add to one weight where it lies in the data file."""
    graph = onnx.load(artifact.path, load_external_data=False).graph
    tensor = next(tensor for tensor in graph.initializer if tensor.name == weight)
    where = {entry.key: entry.value for entry in tensor.external_data}
    data = np.memmap(data_of(artifact), np.float32, "r+", int(where["offset"]), (4,))
    data += 0.5
    data.flush()


def test_a_healthy_one_locates_nothing(external, tmp_path):
    artifact = copied(external, tmp_path)
    assert locate_divergence(artifact, tiny_model("tiny-vit"), 1, SIZE, artifact.sidecar.outputs[0]) is None


@pytest.mark.parametrize("fault", ["missing", "short", "swapped"])
def test_a_data_file_that_is_not_the_right_one_is_refused(fault, external, tmp_path):
    artifact = copied(external, tmp_path)
    data = data_of(artifact)
    if fault == "missing":
        data.unlink()
    else:
        size = data.stat().st_size
        data.write_bytes(bytes(size - 4 if fault == "short" else size))
    with pytest.raises(BadFileError, match=data.name):
        open_artifact(artifact.path)
    assert call(["verify", str(artifact.path), "--golden"]) == 4
