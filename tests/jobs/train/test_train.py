"""``dpt-deploy train``: from a training file to weights, interrupted and resumed, and every way it can be refused."""

import json
import signal

import pytest
import torch
from support.faults.calling import complaint, fine, process
from support.tiny import tiny_path
from support.training import checkpoint_often, write_training

from dpt_deploy.cli import call
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.train import validation
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.scenes.things import CLASSES


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Small validation scenes, a checkpoint every other step, one thread: as in the processes that are killed."""
    monkeypatch.setattr(validation, "SIDE", 64)
    checkpoint_often(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Scenes that all trainings here share."""
    return tmp_path_factory.mktemp("scenes")


def spoken(capsys, *argv):
    """Standard error of a call that must succeed."""
    code = call([str(arg) for arg in argv])
    err = capsys.readouterr().err
    assert code == 0, err
    return err


def argv(training, out, cache, *more):
    return ["train", training, "-o", out, "--cache", cache, *more]


# --- what it makes ----------------------------------------------------------------------------------------------------


def test_weights_and_a_record_of_them(tmp_path, cache, capsys):
    training = write_training(tmp_path)
    table = fine(capsys, *argv(training, tmp_path / "out", cache))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "small.safetensors",
        "small.training",
        "training-small.json",
    ]
    for part in ("AbsRel", "best plane", "out/small.safetensors", "training-small.json", "on 1 unseen scenes"):
        assert part in table
    record = json.loads((tmp_path / "out" / "training-small.json").read_text())
    assert record["kind"] == "training"
    assert (record["plan"]["seed"], record["plan"]["schedule"]["steps"]) == (3, 8)
    assert [step for step, _ in record["loss"]] == [2, 4, 6, 8]
    assert set(record["validation"]) == {"abs_rel", "plane_abs_rel", "share_of_plane"}
    assert record["environment"]["tools"]["torch"]
    spec = load_recipe(str(tmp_path / "small.toml")).model
    model, report = load_weights(spec, tmp_path / "out" / "small.safetensors")
    assert report.fits
    assert torch.isfinite(model(torch.zeros(1, 3, 64, 96))).all()


def test_segmentation_with_its_scores_as_json(tmp_path, cache, capsys):
    training = write_training(tmp_path, task="segmentation")
    found = json.loads(fine(capsys, *argv(training, tmp_path / "out", cache, "--json")))
    assert found["weights"] == str(tmp_path / "out" / f"small-seg{len(CLASSES)}.safetensors")
    assert found["plan"]["task"] == "segmentation"
    scores = found["validation"]
    assert set(scores) == {"pixel_accuracy", "mean_iou", "commonest"}
    assert all(0 <= score <= 1 for score in scores.values())
    recipe = load_recipe(str(tmp_path / "small.toml"), task="segmentation", classes=len(CLASSES))
    model, report = load_weights(recipe.model, tmp_path / "out" / f"small-seg{len(CLASSES)}.safetensors")
    assert report.fits
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, len(CLASSES), 64, 96)
    assert "mean IoU" in fine(capsys, *argv(training, tmp_path / "out", cache))


def test_progress_is_reported_where_there_is_no_terminal(tmp_path, cache, capsys):
    err = spoken(capsys, *argv(write_training(tmp_path), tmp_path / "out", cache))
    assert "training small: 8 steps of 2 images" in err
    assert "step 8 of 8, loss" in err
    assert "validat" in err
    again = spoken(capsys, *argv(tmp_path / "training.toml", tmp_path / "out", cache))
    assert "step" not in again.replace("8 steps", "")


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_interrupted_and_killed_it_ends_in_the_same_bits(tmp_path, cache, capsys):
    training = write_training(tmp_path)
    fine(capsys, *argv(training, tmp_path / "whole", cache))
    parts = argv(training, tmp_path / "parts", cache)
    with process(["support.training", "wait:2", *parts]) as started:
        assert started.stdout.readline() == "ready\n"
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=300)
    assert started.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted; no incomplete artefact was left behind"
    assert "Traceback" not in err
    with process(["support.training", "die:6", *parts]) as started:
        _, err = started.communicate(timeout=300)
    assert started.returncode == -signal.SIGKILL
    assert "step 3 of 8" in err
    assert "step 2 of 8" not in err
    assert not (tmp_path / "parts" / "small.safetensors").exists()
    assert "step 7 of 8" in spoken(capsys, *parts)
    whole, resumed = ((tmp_path / name / "small.safetensors").read_bytes() for name in ("whole", "parts"))
    assert resumed == whole
    records = [json.loads((tmp_path / name / "training-small.json").read_text()) for name in ("whole", "parts")]
    assert records[0]["model"] == "small"
    assert records[0]["loss"] == records[1]["loss"]
    assert records[0]["validation"] == records[1]["validation"]


def test_another_training_in_the_same_folder_is_refused(tmp_path, cache, capsys):
    fine(capsys, *argv(write_training(tmp_path), tmp_path / "out", cache))
    before = (tmp_path / "out" / "small.safetensors").read_bytes()
    said = complaint(capsys, 4, *argv(write_training(tmp_path, seed="4"), tmp_path / "out", cache))
    assert "belongs to another training (different: seed)" in said
    assert (tmp_path / "out" / "small.safetensors").read_bytes() == before
    training = write_training(tmp_path)
    recipe = tmp_path / "small.toml"
    recipe.write_text(recipe.read_text() + "mean = [0.4, 0.4, 0.4]\n")
    assert "belongs to another training (different: image)" in complaint(
        capsys, 4, *argv(training, tmp_path / "out", cache)
    )
    (tmp_path / "out" / "small.training").write_bytes(b"damaged")
    assert "is not a training checkpoint" in complaint(
        capsys, 4, *argv(tmp_path / "training.toml", tmp_path / "out", cache)
    )


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_training_that_diverges_says_so(tmp_path, cache, capsys):
    training = write_training(tmp_path, encoder_rate="1e18", decoder_rate="1e18")
    said = complaint(capsys, 5, *argv(training, tmp_path / "out", cache))
    assert "the loss is" in said
    assert "lower the rates" in said


def training_of(folder, recipe):
    """A training file of another network than the usual one."""
    return write_training(folder, backbone=f'"{recipe}"')


def wide_recipe(folder):
    (folder / "wide.toml").write_text(f'base = "{tiny_path("tiny-vit")}"\n[image]\nheight = 32\n')
    return folder / "wide.toml"


REFUSED = {
    "a missing file": (lambda folder: folder / "none.toml", 4, "cannot be read"),
    "a misspelt key": (lambda folder: write_training(folder, steps="8\nstepps = 3"), 4, "stepps"),
    "no such backbone": (lambda folder: training_of(folder, "tinny"), 2, "unknown backbone 'tinny'"),
    "metres": (lambda folder: training_of(folder, tiny_path("tiny-metric")), 2, "returns metres"),
    "another task": (lambda folder: training_of(folder, tiny_path("tiny-seg")), 2, "segmentation"),
    "coarse off the grid": (
        lambda folder: write_training(folder, steps="8\ncoarse_steps = 2\ncoarse_side = 20"),
        2,
        "coarse_side is 20; small takes multiples of 32",
    ),
    "no square": (lambda folder: training_of(folder, wide_recipe(folder)), 2, "training crops are square"),
}


@pytest.mark.parametrize(("training", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_a_training_that_cannot_be_run_is_refused_before_anything_is_made(training, code, said, tmp_path, capsys):
    assert said in complaint(capsys, code, "train", training(tmp_path), "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_are_refused(tmp_path, cache, capsys):
    training = write_training(tmp_path)
    (tmp_path / "file").touch()
    assert "is a file; expected a folder" in complaint(capsys, 2, *argv(training, tmp_path / "file", cache))
    assert "Not a directory" in complaint(capsys, 7, *argv(training, tmp_path / "file" / "out", cache))
    assert "cannot write /proc/out" in complaint(capsys, 7, *argv(training, "/proc/out", cache))
    assert "cannot write /proc/cache" in complaint(capsys, 7, *argv(training, tmp_path / "out", "/proc/cache"))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "CUDA", "meta", "", "mps"])
def test_an_unknown_device_is_refused(device, tmp_path, cache, capsys):
    said = complaint(capsys, 2, *argv(write_training(tmp_path), tmp_path / "out", cache, "--device", device))
    assert f"unknown device {device!r}" in said
    assert "cuda:1" in said


@pytest.mark.parametrize(("there", "device"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1")])
def test_a_gpu_that_is_not_there_is_named(there, device, tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    said = complaint(capsys, 6, *argv(write_training(tmp_path), tmp_path / "out", cache, "--device", device))
    assert f"--device {device}: PyTorch finds {there or 'no'} GPU" in said
    assert "--device cpu" in said
    assert not (tmp_path / "out").exists()


def test_scenes_without_anything_to_measure_are_an_error(tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr(validation, "OUTDOOR_CAP", 0.0)
    training = write_training(tmp_path, steps="2")
    assert "set a larger validation.scenes" in complaint(capsys, 2, *argv(training, tmp_path / "out", cache))


@pytest.mark.gpu
def test_a_gpu_trains_as_well(tmp_path, cache, capsys):
    found = json.loads(
        fine(capsys, *argv(write_training(tmp_path), tmp_path / "out", cache, "--device", "cuda", "--json"))
    )
    assert found["loss"][-1][0] == 8
