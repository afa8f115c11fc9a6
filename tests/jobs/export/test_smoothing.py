"""Smoothing is kept where it lowers the error of an 8-bit file, and left out where it does not."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.reporting import recording
from support.tiny import exported, exported_for_cpu

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.graph.passes.smooth import smooth
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.export import smoothing
from dpt_deploy.jobs.export.calibration import Calibration
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.export.smoothing import smoothed, with_chosen_smoothing
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.model.landmarks import Landmarks

FILES = ("int8", "int8-cpu")


@pytest.fixture
def setup(tmp_path):
    images = structured_images(4, 64, 64)
    calibration = Calibration("4 images", 4, lambda: iter(images))
    request = ExportRequest(load_recipe("tiny"), precision="int8", res=(Size(64, 64),), smooth=True)
    return MeasurementSetup(request, calibration, has_truth=False, landmarks=Landmarks((), {}, "", ""), folder=tmp_path)


def loud(model):
    """Magnitudes for which :func:`smooth` makes every ninth channel 1000 times as loud: the opposite of smoothing."""
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    values = np.where(np.arange(norms[0].inputs[1].shape[0]) % 9 == 0, 1e-6, 1.0)
    return {node.outputs[0].name: values for node in norms}


def loudened():
    """The graph of a network with loud channels, which computes the same; its new constants have names of their own."""
    graph = ir.load(exported("tiny-vit").path)
    smooth(graph, loud(graph))
    for value in list(graph.graph.initializers.values()):
        if ".smooth" in value.name:
            value.name = value.name.replace(".smooth", ".loud")
    return graph


def chosen(graph, setup):
    full = setup.folder / "full.onnx"
    save_graph(graph, full)
    with recording() as reporter:
        model, table, norms = with_chosen_smoothing(graph, full, setup, FILES)
    return model, table, norms, reporter.lines


def test_smoothing_that_undoes_loud_channels_is_kept(setup):
    graph = loudened()
    model, table, norms, lines = chosen(graph, setup)
    assert model is not graph
    assert norms == 8
    assert set(table.clip) != set()
    assert any(line.startswith("smoothing kept: it changes the squared error 0.") for line in lines), lines


def test_smoothing_that_harms_is_left_out(setup, monkeypatch):
    graph = ir.load(exported("tiny-vit").path)
    monkeypatch.setattr(smoothing, "smooth", lambda model, _largest: smooth(model, loud(model)))
    model, table, norms, lines = chosen(graph, setup)
    assert (model, norms) == (graph, 0)
    assert any(line.startswith("smoothing left out: it changes the squared error") for line in lines), lines
    plain = chosen(graph, replace(setup, request=replace(setup.request, smooth=False)))
    assert plain[1].clip == table.clip  # the ranges of the graph itself
    assert not any("smooth" in line for line in plain[3])


def test_a_network_without_norms_is_left_as_it_is(tmp_path):
    ends_ = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "bare", ends_[:1], ends_[1:])
    model = ir.from_proto(onnx.helper.make_model(graph))
    assert smoothed(model, tmp_path / "full.onnx", None) == (model, 0)


def test_the_export_records_what_was_done_and_not_what_was_wished(tmp_path, monkeypatch):
    artifact, lines = exported_for_cpu(tmp_path / "good", smooth=True)
    record = artifact.sidecar.quantisation
    assert any(line.startswith("smoothed 8 norms, 0 refused") for line in lines), lines
    assert record.smooth
    assert record.smoothed == (8 if any("smoothing kept" in line for line in lines) else 0)
    monkeypatch.setattr("dpt_deploy.graph.passes.smooth._numbers", lambda value: value.const_value.numpy() * 1.5)
    artifact, lines = exported_for_cpu(tmp_path / "bad", smooth=True)
    assert any("smoothing moves the output by" in line for line in lines), lines
    assert artifact.sidecar.quantisation.smoothed == 0
