"""A typed graph is held to the recipe's tolerance, or to what PyTorch itself loses in 16 bits, whichever is more."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from support.tiny import exported, tampered, tiny_model
from torch.nn import functional

from dpt_deploy.artifact.records import TYPE_LOSS_TIMES, CaseResult, TypeLossRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.cli.shared.output import case_rows
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import parity_images, reference_input
from dpt_deploy.jobs.common.reference import reference_of, reference_outputs
from dpt_deploy.jobs.verify.golden import read_golden
from dpt_deploy.jobs.verify.type_loss import TYPE_LOSS_DRAWS, held_to_pytorch, type_losses
from dpt_deploy.measure.metrics import range_error
from dpt_deploy.runtime.pytorch import narrow_products


@pytest.mark.parametrize(
    ("name", "precision", "kind"),
    [
        ("tiny-vit", "fp16", "fp16"),
        ("tiny-vit", "bf16", "bf16"),
        ("tiny-vit", "fp8", "bf16"),
        ("tiny-hybrid", "fp16", "fp16"),
        ("tiny-conv", "bf16", "bf16"),
    ],
)
def test_it_is_what_autocast_free_pytorch_loses(name, precision, kind):
    artifact = exported(name, precision=precision)
    sidecar = artifact.sidecar
    images, reference = read_golden(artifact.golden_path, sidecar.outputs)
    network = reference_of(sidecar)
    narrow = {"fp16": torch.half, "bf16": torch.bfloat16}[kind]
    (pixels,) = reference_input(sidecar, images).values()
    with torch.no_grad():
        found = network.to(narrow)(torch.from_numpy(pixels).to(narrow)).float().numpy()
    lost = sidecar.outputs[0].type_loss
    assert lost.type == kind
    assert (lost.max, lost.mean) == pytest.approx(range_error(found, reference["predicted_depth"]), rel=0.2)
    assert 0 < lost.mean < lost.max < 0.1


@pytest.mark.parametrize("kind", [torch.half, torch.bfloat16], ids=str)
def test_products_are_summed_in_32_bits_and_rounded_once(kind):
    numbers = torch.Generator().manual_seed(0)
    image = torch.randn(1, 8, 9, 9, generator=numbers).to(kind)
    kernel, offset = torch.randn(4, 8, 3, 3, generator=numbers).to(kind), torch.randn(4, generator=numbers).to(kind)
    full = functional.conv2d(image.float(), kernel.float(), offset.float())
    with narrow_products(torch.device("cpu")):
        found = functional.conv2d(image, kernel, bias=offset)
        product = torch.full((1, 1), 300.0, dtype=torch.half) @ torch.full((1, 1), 300.0, dtype=torch.half)
        total = found + 1
    assert found.dtype == kind
    assert torch.equal(found, full.to(kind))
    assert not torch.equal(found.float(), full)
    assert torch.isinf(product)  # 90000 is more than float16 holds
    assert torch.equal(total, found + 1)


def test_products_of_mixed_types_are_refused_as_pytorch_does():
    with narrow_products(torch.device("cpu")), pytest.raises(RuntimeError, match="dtype"):
        functional.linear(torch.ones(1, 2), torch.ones(2, 2, dtype=torch.half))


def test_there_is_none_where_there_is_nothing_to_compare():
    assert exported("tiny-vit").sidecar.outputs[0].type_loss is None
    assert exported("tiny-seg", precision="fp16", output_kind="labels").sidecar.outputs[0].type_loss is None


def test_an_overflow_in_pytorch_is_no_excuse():
    sidecar = exported("tiny-vit", precision="fp16").sidecar
    model = copy.deepcopy(tiny_model("tiny-vit"))  # the other is shared
    with torch.no_grad():
        model.head.conv3.bias.fill_(1e6)
    images = np.zeros((1, 64, 64, 3), np.uint8)
    reference = {"predicted_depth": np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)}
    assert type_losses(model, sidecar, images, reference) == {}


def test_more_is_allowed_only_where_pytorch_loses_more():
    sidecar = exported("tiny-vit", precision="fp16").sidecar
    (output,) = sidecar.outputs
    little = replace(output, type_loss=TypeLossRecord("fp16", 1e-5, 1e-6))
    assert little.allowed == replace(output, type_loss=None).allowed == output.tolerance
    rough = replace(output, type_loss=TypeLossRecord("fp16", 0.02, 0.004))
    assert (rough.allowed.max, rough.allowed.mean) == (TYPE_LOSS_TIMES * 0.02, TYPE_LOSS_TIMES * 0.004)
    assert rough.allowed.disagreement == output.tolerance.disagreement
    recorded = replace(sidecar, outputs=(rough,))
    assert Sidecar.from_json(recorded.to_json()) == recorded


def test_a_file_that_loses_more_than_that_fails(tmp_path, capsys):
    """Damage passes if the network amplifies rounding as much, and fails if it does not."""

    def spoil(model):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("head.conv1") and len(tensor.dims) == 4:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values * values.dtype.type(1.2), tensor.name))

    spoiled = tampered(exported("tiny-vit", precision="fp16"), tmp_path, spoil)
    check = ["verify", str(spoiled.path), "--res", "64", "--batch", "1"]
    assert call(check) == 5
    (output,) = spoiled.sidecar.outputs
    excused = replace(output, type_loss=TypeLossRecord("fp16", 0.3, 0.3))
    write_sidecar(spoiled.path, replace(spoiled.sidecar, outputs=(excused,)))
    assert call(check) == 0


def measured(precision, draws):
    """A network, its sidecar, and the losses that PyTorch measures on two images, one per draw."""
    sidecar = exported("tiny-vit", precision=precision).sidecar
    network, (output,) = reference_of(sidecar), sidecar.outputs
    images = parity_images(precision, 2, Size(96, 64))
    reference = reference_outputs(network, sidecar, images)
    losses = [type_losses(network, sidecar, images, reference, draw=draw)[output.name] for draw in range(draws)]
    strict = replace(sidecar, outputs=(replace(output, tolerance=replace(output.tolerance, max=1e-9, mean=1e-9)),))
    return network, strict, losses


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_draws_of_a_loss_differ_little_and_are_the_same_each_time(precision):
    _, _, losses = measured(precision, 3)
    means = [each.mean for each in losses]
    assert len(set(means)) == 3
    assert max(means) < 2 * min(means)  # tiny-vit with random weights amplifies nothing
    assert measured(precision, 3)[2] == losses


def test_a_case_may_lose_three_times_the_largest_loss_of_pytorch_on_its_own_images():
    network, strict, losses = measured("fp16", TYPE_LOSS_DRAWS)
    (output,) = strict.outputs
    limits = [TYPE_LOSS_TIMES * each.mean for each in losses]
    fine = CaseResult(2, "96x64", False, max=losses[0].max, mean=0.9 * limits[0], output=output.name)
    at_last = replace(fine, mean=0.999 * max(limits))
    cases = (fine, at_last, replace(fine, mean=1.001 * max(limits)), replace(fine, note="NaN"))
    held = [held_to_pytorch(case, network, strict) for case in cases]
    assert [case.passed for case in held] == [True, True, False, False]
    assert held[0].held_to.mean == pytest.approx(limits[0])
    assert held[1].held_to.mean == held[2].held_to.mean == pytest.approx(max(limits))
    assert held[3].held_to is None
    (row,) = case_rows(held[:1])
    assert "by PyTorch's own loss" in row[-1]
