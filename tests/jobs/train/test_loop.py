"""Training: resumed to the bit, at the rates that were asked for, and stopped with a reason."""

import os
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.disks import full_disk
from support.reporting import recording
from support.toys import (
    IDENTITY,
    SCHEDULE,
    TASKS,
    depth,
    depth_batches,
    network,
    same,
    trained,
)
from support.training import checkpoint_often
from torch import nn

from dpt_deploy.core.errors import BadFileError, ParityError, ResourceError, UsageError
from dpt_deploy.jobs.train import loop as train
from dpt_deploy.jobs.train.config import Schedule
from dpt_deploy.jobs.train.loop import fit
from dpt_deploy.jobs.train.objectives import DepthObjective


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Stop(Exception):
    pass


def stop_at(step):
    def stop(task):
        if task.done == step:
            raise Stop

    return recording(stop)


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    checkpoint_often(monkeypatch.setattr)


# --- going on ---------------------------------------------------------------------------------------------------------


def interrupted(folder, task, schedule=SCHEDULE):
    """A training that was stopped before its first checkpoint, and twice after one, the last time after step 4."""
    for step in (1, 3, 6):
        with stop_at(step), pytest.raises(Stop):
            trained(folder, task, schedule)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("task", TASKS)
def test_an_interrupted_training_ends_in_the_same_bits(task, optimizer, tmp_path):
    schedule = replace(SCHEDULE, optimizer=optimizer)
    whole, aim, history = trained(tmp_path, task, schedule, checkpoint=tmp_path / "whole.training")
    interrupted(tmp_path, task, schedule)
    with recording() as reporter:
        resumed, its_aim, its_history = trained(tmp_path, task, schedule)
    assert [step for step, _, _ in reporter.tasks[0].states] == [5, 6, 7, 8]
    assert same(resumed, whole)
    assert same(its_aim, aim)
    assert its_history.curve == history.curve
    assert [step for step, _ in history.curve] == [2, 4, 6, 8]


def forget_momentum(saved):
    saved["optimizer"]["state"] = {}


def forget_statistics(saved):
    saved["network"]["fusion.1.0.running_mean"].zero_()


def forget_auxiliary(saved):
    saved["objective"]["auxiliary.4.weight"].zero_()


@pytest.mark.parametrize("forget", [forget_momentum, forget_statistics, forget_auxiliary])
def test_what_a_checkpoint_forgets_is_noticed(forget, tmp_path):
    whole, _, _ = trained(tmp_path, "segmentation", checkpoint=tmp_path / "whole.training")
    interrupted(tmp_path, "segmentation")
    saved = torch.load(tmp_path / "net.training")
    forget(saved)
    torch.save(saved, tmp_path / "net.training")
    resumed, _, _ = trained(tmp_path, "segmentation")
    assert not same(resumed, whole)


def test_without_a_seed_of_its_own_for_each_step_dropout_would_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_random_state", lambda *_args: nullcontext())
    whole, _, _ = trained(tmp_path, checkpoint=tmp_path / "whole.training")
    interrupted(tmp_path, "depth")
    resumed, _, _ = trained(tmp_path)
    assert not same(resumed, whole)


def test_chance_outside_goes_on_as_if_nothing_had_been(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with train._random_state(1, 0, "cpu"):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with train._random_state(1, 0, "cpu"):
        assert torch.equal(torch.rand(4), inside)
    for other in ((1, 1), (2, 0)):
        with train._random_state(*other, "cpu"):
            assert not torch.equal(torch.rand(4), inside)


def test_another_seed_is_another_training(tmp_path):
    one, _, _ = trained(tmp_path, checkpoint=tmp_path / "one")
    other, _, _ = trained(tmp_path, checkpoint=tmp_path / "other", seed=2)
    assert not same(one, other)


def test_a_finished_training_is_not_trained_again(tmp_path):
    whole, _, history = trained(tmp_path)
    with stop_at(9):
        again, _, its_history = trained(tmp_path)
    assert same(again, whole)
    assert its_history == history
    assert names(tmp_path) == ["net.training"]


def test_a_checkpoint_is_written_each_minute_and_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_CHECKPOINT_EVERY_S", 60.0)
    seen = []
    with recording(lambda _task: seen.append((tmp_path / "net.training").exists())):
        trained(tmp_path)
    assert not any(seen)
    assert torch.load(tmp_path / "net.training")["step"] == 8


def test_a_checkpoint_from_before_there_were_objectives_goes_on(tmp_path):
    interrupted(tmp_path, "depth")
    saved = torch.load(tmp_path / "net.training")
    assert saved.pop("objective") == {}
    torch.save(saved, tmp_path / "net.training")
    resumed, _, _ = trained(tmp_path)
    assert same(resumed, trained(tmp_path, checkpoint=tmp_path / "whole.training")[0])


# --- checkpoints that do not fit --------------------------------------------------------------------------------------


def test_the_state_of_another_training_is_refused_with_what_differs(tmp_path):
    trained(tmp_path)
    other = {**IDENTITY, "seed": 2, "schedule": {"steps": 9}, "task": "segmentation"}
    with pytest.raises(BadFileError, match=r"another training \(different: schedule, seed, task\)") as caught:
        trained(tmp_path, identity=other)
    assert "another folder" in caught.value.hint
    assert caught.value.exit_code == 4


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def without_weights(path):
    saved = torch.load(path)
    del saved["network"]["head.weight"]
    torch.save(saved, path)


def with_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        without_weights,
        lambda path: path.write_text("hello"),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"identity": IDENTITY}, path),
        lambda path: torch.save(SCHEDULE, path),  # needs code to be run
    ],
    ids=["truncated", "a weight is missing", "text", "empty", "a list", "no weights", "code"],
)
def test_a_damaged_checkpoint_is_refused(spoil, tmp_path):
    trained(tmp_path)
    spoil(tmp_path / "net.training")
    with pytest.raises(BadFileError, match="not a training checkpoint") as caught:
        trained(tmp_path)
    assert "remove it" in caught.value.hint


def test_a_folder_in_the_place_of_the_checkpoint_is_refused(tmp_path):
    trained(tmp_path)
    with_a_folder(tmp_path / "net.training")
    with pytest.raises(UsageError, match="is not a regular file") as caught:
        trained(tmp_path)
    assert "remove it" in caught.value.hint


# --- rates ------------------------------------------------------------------------------------------------------------


def moved(folder, task="depth", **rates):
    """List which of encoder, decoder and auxiliary head a training changed."""
    make, _, objective = TASKS[task]
    net, aim, _ = trained(folder, task, replace(SCHEDULE, **rates), checkpoint=folder / f"{task} {rates}")
    before = make(), objective()
    there = {name for name, weight in net.named_parameters() if not torch.equal(weight, before[0].get_parameter(name))}
    found = {"encoder" if name.startswith("encoder") else "decoder" for name in there}
    found |= {"auxiliary" for name, w in aim.named_parameters() if not torch.equal(w, before[1].get_parameter(name))}
    return found


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_each_part_learns_at_its_own_rate(optimizer, tmp_path):
    assert moved(tmp_path, encoder_rate=0.0, optimizer=optimizer) == {"decoder"}
    assert moved(tmp_path, decoder_rate=0.0, optimizer=optimizer) == {"encoder"}
    assert moved(tmp_path, decoder_rate=0.0, encoder_rate=0.0, optimizer=optimizer) == set()
    assert moved(tmp_path, "segmentation", encoder_rate=0.0, optimizer=optimizer) == {"decoder", "auxiliary"}


class Slope(nn.Module):
    """A loss whose gradient with respect to every parameter is ``size``."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, net, images, targets):
        return self.size * sum(parameter.sum() for parameter in net.parameters())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = (nn.Linear(1, 1, bias=False) for _ in range(2))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def descended(folder, schedule, size=1.0):
    """Train encoder and decoder on a constant slope, and return their last values."""
    net = Two().double()
    fit(
        net,
        net.encoder.parameters(),
        lambda _step: (torch.zeros(1, 3, 1, 1), torch.zeros(1)),
        Slope(size),
        schedule,
        checkpoint=folder / "slope.training",
        identity={},
    )
    return net.encoder.weight.item(), net.decoder.weight.item()


@pytest.mark.parametrize("decay", ["cosine", "polynomial"])
def test_sgd_has_momentum_and_rates_follow_the_schedule(decay, tmp_path):
    schedule = Schedule(20, 1, encoder_rate=1e-3, decoder_rate=1e-2, optimizer="sgd", decay=decay, warm_up=5, clip=1e9)
    expected, speed = np.zeros(2), 0.0
    for step in range(20):
        share = (step - 5) / 15
        falling = (1 + np.cos(np.pi * share)) / 2 if decay == "cosine" else (1 - max(share, 0)) ** 0.9
        speed = 0.9 * speed + 1
        expected -= np.array([1e-3, 1e-2]) * ((step + 1) / 5 if step < 5 else falling) * speed
    assert descended(tmp_path, schedule) == pytest.approx(expected, rel=1e-9)


def test_the_norm_of_the_gradient_is_bounded(tmp_path):
    schedule = Schedule(1, 1, encoder_rate=1.0, decoder_rate=1.0, optimizer="sgd", clip=0.5)
    assert np.hypot(*descended(tmp_path, schedule, size=1e6)) == pytest.approx(0.5, rel=1e-5)
    (tmp_path / "slope.training").unlink()
    assert descended(tmp_path, schedule, size=0.1) == pytest.approx((-0.1, -0.1))


def test_adam_is_that_of_the_books(tmp_path):
    schedule = Schedule(3, 1, encoder_rate=1e-3, decoder_rate=1e-2, clip=1e9)
    factors = sum(schedule.factor(step) for step in range(3))  # on a constant slope each step is the rate
    assert descended(tmp_path, schedule, size=7.0) == pytest.approx((-1e-3 * factors, -1e-2 * factors), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_only_matrices_and_convolutions_decay(optimizer, tmp_path):
    net = nn.Module()
    net.linear, net.conv, net.norm = nn.Linear(2, 2), nn.Conv2d(2, 2, 1), nn.LayerNorm(2)
    net.table = nn.Parameter(torch.ones(1, 3, 2))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    schedule = Schedule(1, 1, 0.1, 0.1, optimizer=optimizer, weight_decay=0.5)
    nothing = (torch.zeros(1, 3, 1, 1), torch.zeros(1))
    fit(net, [], lambda _step: nothing, Slope(0.0), schedule, checkpoint=tmp_path / "d.training", identity={})
    fallen = {name for name, parameter in net.named_parameters() if (parameter != 1).any()}
    assert fallen == {"linear.weight", "conv.weight"}
    assert net.conv.weight[0, 0].item() == pytest.approx(0.95)


def test_bfloat16_computes_in_it_and_learns_in_float32(tmp_path):
    seen = []

    class Spy(DepthObjective):
        def forward(self, net, images, targets):
            seen.append(net(images).dtype)
            return super().forward(net, images, targets)

    net = network()
    schedule = replace(SCHEDULE, precision="bfloat16")
    fit(net, [], depth_batches, Spy("head"), schedule, checkpoint=tmp_path / "c", identity={})
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path):
    def batches(step):
        images, targets = depth_batches(step)
        return images * (float("nan") if step == 5 else 1), targets

    net = network()
    with pytest.raises(ParityError, match="nan at step 5") as caught:
        fit(net, [], batches, depth(), SCHEDULE, checkpoint=tmp_path / "c", identity={})
    assert caught.value.exit_code == 5
    assert "rates" in caught.value.hint
    assert torch.load(tmp_path / "c")["step"] == 4
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path):
    interrupted(tmp_path, "depth")
    before = (tmp_path / "net.training").read_bytes()
    with full_disk(), pytest.raises(ResourceError, match=r"net\.training: File too large"):
        trained(tmp_path)
    assert (tmp_path / "net.training").read_bytes() == before
    assert names(tmp_path) == ["net.training"]


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, *_args):
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ResourceError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ResourceError),
        (MemoryError(), ResourceError),
        (RuntimeError("a defect"), RuntimeError),
    ],
    ids=["gpu", "cpu", "python", "defect"],
)
def test_memory_that_runs_out_is_no_defect(error, expected, tmp_path):
    with pytest.raises(expected) as caught:
        fit(network(), [], depth_batches, Fails(error), SCHEDULE, checkpoint=tmp_path / "c", identity={})
    assert expected is RuntimeError or "schedule.batch" in caught.value.hint


def test_a_checkpoint_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    trained(tmp_path, "depth", checkpoint=tmp_path / "victim")
    before = (tmp_path / "victim").read_bytes()
    (tmp_path / "link.training").symlink_to("victim")
    with pytest.raises(UsageError, match="is a symbolic link"):
        trained(tmp_path, "depth", checkpoint=tmp_path / "link.training")
    assert (tmp_path / "victim").read_bytes() == before
