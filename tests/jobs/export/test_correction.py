"""Corrections of biases are kept where they lower the error of the output, and left out where they do not."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny import exported

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.export.calibration import Calibration
from dpt_deploy.jobs.export.correction import paired_ratio, with_chosen_correction
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import calibrate
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.model.landmarks import Landmarks


def test_a_ratio_wins_only_with_its_whole_interval():
    noise = np.linspace(1.0, 2.0, 8)
    assert paired_ratio(0.8 * noise, noise).high < 1.0
    assert paired_ratio(noise * np.array([0.5, 1.4] * 4), noise).high > 1.0
    assert paired_ratio(noise[:1], noise[:1]).high == 1.0
    assert paired_ratio(np.zeros(8), np.zeros(8)).high == 1.0


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correction")
    images = structured_images(4, 64, 64)
    calibration = Calibration("4 images", 4, lambda: iter(images))
    request = ExportRequest(load_recipe("tiny"), precision="int8", res=(Size(64, 64),))
    setup = MeasurementSetup(request, calibration, has_truth=False, landmarks=Landmarks((), {}, "", ""), folder=folder)
    graph, full = ir.load(exported("tiny-vit").path), folder / "full.onnx"
    save_graph(graph, full)
    return graph, full, calibrate(full, setup), setup


def test_every_quantised_node_of_both_files_has_a_shift(calibrated):
    _graph, _full, table, _setup = calibrated
    assert set(table.shifts) == {"int8", "int8-cpu"}
    assert set(table.shifts["int8"]) == set(table.shifts["int8-cpu"])
    assert all(np.isfinite(shift).all() for shifts in table.shifts.values() for shift in shifts.values())


def test_a_correction_that_harms_is_left_out_and_one_that_undoes_harm_is_kept(calibrated):
    graph, full, table, setup = calibrated
    last = list(table.shifts["int8-cpu"])[-1]
    wrong = {name: {last: np.full_like(shifts[last], 9.0)} for name, shifts in table.shifts.items()}
    assert with_chosen_correction(graph, full, replace(table, shifts=wrong), setup).shifts == {}
    harmed = graph.clone()
    bias = next(node for node in harmed.graph if node.name == last).inputs[2]
    bias.const_value = ir.Tensor((bias.const_value.numpy() - 9.0).astype(np.float32))
    assert with_chosen_correction(harmed, full, replace(table, shifts=wrong), setup).shifts == wrong
