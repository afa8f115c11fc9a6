"""Objectives: their terms, the auxiliary head, and that networks learn by them."""

import numpy as np
import pytest
import torch
from support.tiny import tiny_recipe
from support.toys import CLASSES_HERE, TASKS, network, same, segmentation
from torch import nn

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.jobs.train import loop as train
from dpt_deploy.jobs.train.batches import SceneBatches
from dpt_deploy.jobs.train.config import Augmentation, Schedule
from dpt_deploy.jobs.train.loop import fit
from dpt_deploy.jobs.train.losses import depth_loss, segmentation_loss
from dpt_deploy.jobs.train.objectives import AuxiliaryHead, DepthObjective, SegmentationObjective
from dpt_deploy.jobs.train.rendered import LabelledScenes, RenderedScenes
from dpt_deploy.model.initial import fresh_model
from dpt_deploy.scenes.things import CLASSES

# --- objectives -------------------------------------------------------------------------------------------------------


def shifted(shift):
    """A depth network in evaluation mode whose output before the final ReLU is shifted; images and truth."""
    model = fresh_model(tiny_recipe("tiny-vit").model, seed=1).eval()
    nn.init.constant_(model.head.conv3.bias, shift)
    return model, torch.randn(2, 3, 64, 64), torch.rand(2, 64, 64)


def test_depth_is_learned_from_the_output_before_the_final_relu():
    model, images, inverse = shifted(0.0)
    seen = []
    handle = model.head.conv3.register_forward_hook(lambda _m, _i, output: seen.append(output.squeeze(1)))
    model(images)
    handle.remove()
    output = seen[0].detach()
    assert (output < 0).any()
    unknown = inverse.clone()
    unknown[:, :5] = torch.inf
    centre = output.flatten(1).median(dim=1).values[:, None, None]
    deviation = (output - centre).abs().mean(dim=(1, 2), keepdim=True)
    terms = 0.1 * (output.clamp_max(0).abs() / deviation).mean() + 0.01 * (deviation.log() ** 2).mean()
    for truth in (inverse, unknown):
        expected = depth_loss(output, truth, truth.isfinite()) + terms
        assert torch.allclose(DepthObjective(model.landmarks.last)(model, images, truth), expected, rtol=1e-5)
    expected = depth_loss(output, inverse, inverse.isfinite(), alpha=0.1, trim=0.0) + terms
    assert torch.allclose(
        DepthObjective(model.landmarks.last, alpha=0.1, trim=0.0)(model, images, inverse), expected, rtol=1e-5
    )
    assert not model.head.conv3._forward_pre_hooks


def test_a_network_that_fell_below_zero_can_still_learn():
    model, images, inverse = shifted(-1e3)
    lost = depth_loss(model(images), inverse, inverse.isfinite())
    lost.backward()
    assert not any(parameter.grad.any() for parameter in model.parameters())  # all of it is behind the ReLU
    DepthObjective(model.landmarks.last)(model, images, inverse).backward()
    assert model.head.conv3.bias.grad.item() < 0  # upwards
    assert model.encoder.blocks[0].attn.qkv.weight.grad.any()


# --- the auxiliary head -----------------------------------------------------------------------------------------------


def test_the_auxiliary_head_reads_the_penultimate_fusion_and_leaves_no_trace():
    model = fresh_model(tiny_recipe("tiny-seg").model, seed=1)
    aim = SegmentationObjective(
        model.landmarks.penultimate, model.spec.fusion_channels, model.spec.num_classes, seed=1
    ).eval()
    model.eval()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 7, (2, 64, 64))
    seen = {}
    handles = [
        block.register_forward_hook(lambda _m, _i, output, level=level: seen.update({level: output}))
        for level, block in enumerate(model.fusion)
    ]
    logits = model(images)
    for handle in handles:
        handle.remove()
    assert seen[1].shape == (2, 32, 16, 16)  # a quarter; the last one, level 0, is half of the image
    assert torch.equal(aim(model, images, labels), segmentation_loss(logits, aim.auxiliary(seen[1]), labels))
    assert not model.fusion[1]._forward_hooks
    assert not any("auxiliary" in key for key in model.state_dict())


def test_the_auxiliary_head_is_that_of_the_published_code():
    head = AuxiliaryHead(8, 4, seed=1)
    assert [type(layer).__name__ for layer in head] == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Conv2d"]
    assert (head[0].bias, head[3].p) == (None, 0.1)
    assert same(head, AuxiliaryHead(8, 4, seed=1))
    assert not same(head, AuxiliaryHead(8, 4, seed=2))
    assert head(torch.randn(2, 8, 5, 6)).shape == (2, 4, 5, 6)


def test_a_hook_is_removed_though_the_network_fails():
    net = network(CLASSES_HERE)
    with pytest.raises(RuntimeError):
        segmentation()(net, torch.randn(1, 5, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64))
    assert not net.fusion[1]._forward_hooks


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    for kind in (RenderedScenes, LabelledScenes):
        kind(folder, 4, 64).render(workers=1)
    return folder


def learned(few, folder, task, rate, steps):
    """Mean loss of the first and the last ten steps on four scenes."""
    spec: ModelSpec = tiny_recipe("tiny-vit").model
    spec = spec.with_classes(len(CLASSES)) if task == "segmentation" else spec
    source = (LabelledScenes if task == "segmentation" else RenderedScenes)(few, 4, 64)
    batches = SceneBatches(source, 4, 64, 1, (0.5,) * 3, (0.5,) * 3, Augmentation(smallest_crop=0.95, colour=0.0))
    model = fresh_model(spec, seed=1)
    aim = (
        DepthObjective(model.landmarks.last)
        if task == "depth"
        else segmentation(channels=spec.fusion_channels, classes=len(CLASSES))
    )
    history = fit(
        model,
        model.encoder.parameters(),
        batches,
        aim,
        Schedule(steps, 4, encoder_rate=rate, decoder_rate=rate, warm_up=5),
        checkpoint=folder / f"{rate}.training",
        identity={},
    )
    losses = [loss for _, loss in history.curve]
    return np.mean(losses[:10]), np.mean(losses[-10:])


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_network_learns_a_few_scenes(task, few, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_RECORD_EVERY", 1)
    first, last = learned(few, tmp_path, task, rate=3e-3, steps=40)
    assert last < 0.7 * first
    first, last = learned(few, tmp_path, task, rate=0.0, steps=20)
    assert last > 0.8 * first
