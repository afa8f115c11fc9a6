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
    return calibrated_graph("tiny-vit", tmp_path_factory.mktemp("correction"))


@pytest.fixture(scope="module")
def calibrated_both(tmp_path_factory):
    return calibrated_graph("tiny-vit-both", tmp_path_factory.mktemp("both"))


def calibrated_graph(name, folder):
    images = structured_images(4, 64, 64)
    calibration = Calibration("4 images", 4, lambda: iter(images))
    request = ExportRequest(load_recipe("tiny"), precision="int8", res=(Size(64, 64),))
    setup = MeasurementSetup(request, calibration, has_truth=False, landmarks=Landmarks((), {}, "", ""), folder=folder)
    graph, full = ir.load(exported(name).path), folder / "full.onnx"
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


HEADS = ("head.", "branches.scores.head.")


def moved(graph, table, signs):
    """``graph`` with 9 less in the bias of one node for each output, and the shifts that add 9 times each sign."""
    table_of = table.shifts["int8-cpu"]
    nodes = [next(name for name in table_of if name.startswith(head)) for head in HEADS]
    harmed = graph.clone()
    for node in harmed.graph:
        if node.name in nodes:
            bias = node.inputs[2]
            bias.const_value = ir.Tensor((bias.const_value.numpy() - 9.0).astype(np.float32))
    return harmed, {
        precision: {node: np.full_like(shifts[node], 9.0 * sign) for node, sign in zip(nodes, signs, strict=True)}
        for precision, shifts in table.shifts.items()
    }


@pytest.mark.parametrize(("signs", "kept"), [((1, 1), True), ((1, -1), False), ((-1, 1), False)])
def test_of_two_outputs_a_correction_must_help_each(signs, kept, calibrated_both):
    graph, full, table, setup = calibrated_both
    harmed, shifts = moved(graph, table, signs)
    found = with_chosen_correction(harmed, full, replace(table, shifts=shifts), setup).shifts
    assert found == (shifts if kept else {})
