"""A typed graph is held to the recipe's tolerance, or to what PyTorch itself loses in 16 bits, whichever is more."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from support.tiny import exported, tampered, tiny_model

from dpt_deploy.artifact.records import CaseResult, TypeLossRecord
from dpt_deploy.artifact.sidecar import TYPE_LOSS_TIMES, Sidecar
from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.cli._output import case_rows
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import parity_images, reference_input
from dpt_deploy.jobs.common.reference import reference_of
from dpt_deploy.jobs.verify.golden import read_golden, reference_output
from dpt_deploy.jobs.verify.type_loss import held_to_pytorch, type_loss
from dpt_deploy.measure.metrics import range_error


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "fp16"), ("bf16", "bf16"), ("fp8", "bf16")])
def test_it_is_what_autocast_free_pytorch_loses(precision, kind):
    artifact = exported("tiny-vit", precision=precision)
    sidecar = artifact.sidecar
    stored = read_golden(artifact.path.with_name(sidecar.golden))
    network = reference_of(sidecar)
    narrow = {"fp16": torch.half, "bf16": torch.bfloat16}[kind]
    (pixels,) = reference_input(sidecar, stored["images"]).values()
    with torch.no_grad():
        found = network.to(narrow)(torch.from_numpy(pixels).to(narrow)).float().numpy()
    expected = range_error(found, stored["output"])
    assert sidecar.type_loss.type == kind
    assert (sidecar.type_loss.max, sidecar.type_loss.mean) == pytest.approx(expected, rel=0.2)
    assert 0 < sidecar.type_loss.mean < sidecar.type_loss.max < 0.1


def test_there_is_none_where_there_is_nothing_to_compare():
    assert exported("tiny-vit").sidecar.type_loss is None
    assert exported("tiny-seg", precision="fp16", output_kind="labels").sidecar.type_loss is None


def test_an_overflow_in_pytorch_is_no_excuse():
    sidecar = exported("tiny-vit", precision="fp16").sidecar
    model = copy.deepcopy(tiny_model("tiny-vit"))  # the other is shared
    with torch.no_grad():
        model.head.conv3.bias.fill_(1e6)
    images = np.zeros((1, 64, 64, 3), np.uint8)
    assert type_loss(model, sidecar, images, np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)) is None


def test_more_is_allowed_only_where_pytorch_loses_more():
    sidecar = exported("tiny-vit", precision="fp16").sidecar
    little = replace(sidecar, type_loss=TypeLossRecord("fp16", 1e-5, 1e-6))
    assert little.allowed == replace(sidecar, type_loss=None).allowed == sidecar.tolerance
    rough = replace(sidecar, type_loss=TypeLossRecord("fp16", 0.02, 0.004))
    assert (rough.allowed.max, rough.allowed.mean) == (TYPE_LOSS_TIMES * 0.02, TYPE_LOSS_TIMES * 0.004)
    assert rough.allowed.disagreement == sidecar.tolerance.disagreement
    assert Sidecar.from_json(rough.to_json()) == rough


def test_a_file_that_loses_more_than_that_fails(tmp_path, capsys):
    """The same damage passes beside a network that amplifies rounding as much, and fails beside one that does not."""

    def spoil(model):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("head.conv1") and len(tensor.dims) == 4:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values * values.dtype.type(1.2), tensor.name))

    spoiled = tampered(exported("tiny-vit", precision="fp16"), tmp_path, spoil)
    check = ["verify", str(spoiled.path), "--res", "64", "--batch", "1"]
    assert call(check) == 5
    write_sidecar(spoiled.path, replace(spoiled.sidecar, type_loss=TypeLossRecord("fp16", 0.3, 0.3)))
    assert call(check) == 0


def test_a_case_may_lose_thrice_what_pytorch_loses_on_its_own_images():
    artifact = exported("tiny-vit", precision="fp16")
    sidecar = artifact.sidecar
    network = reference_of(sidecar)
    images = parity_images("fp16", 2, Size(96, 64))
    lost = type_loss(network, sidecar, images, reference_output(network, sidecar, images))
    fine = CaseResult(2, "96x64", False, max=0.5 * TYPE_LOSS_TIMES * lost.max, mean=0.9 * TYPE_LOSS_TIMES * lost.mean)
    strict = replace(sidecar, tolerance=replace(sidecar.tolerance, max=1e-9, mean=1e-9))
    cases = (fine, replace(fine, mean=1.1 * TYPE_LOSS_TIMES * lost.mean), replace(fine, note="NaN"))
    held = [held_to_pytorch(case, network, strict) for case in cases]
    assert [case.passed for case in held] == [True, False, False]
    assert held[0].held_to.mean == pytest.approx(TYPE_LOSS_TIMES * lost.mean)
    assert held[2].held_to is None
    (row,) = case_rows(held[:1])
    assert "by PyTorch's own loss" in row[-1]
