"""FocusOnDepth: its keys, the whole network against plain functions of them, and one file with both outputs."""

import hashlib
import json

import numpy as np
import onnxruntime
import pytest
import torch
from support import focus
from support.faults.calling import complaint, fine
from support.paths import ROOT, TESTS
from support.tiny import tiny_path

from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.match import CheckpointMismatchError, match_keys
from dpt_deploy.model.families.registry import detect
from dpt_deploy.model.rewrites.exact import deployable

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

LIMIT = 1e-5
NAME = tiny_path("tiny-focus")
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
OUTPUTS = ["predicted_depth", "logits"]
SIZES = [(2, 96, 96), (1, 32, 160), (3, 128, 64)]
KEYS = json.loads((TESTS / "golden" / "focus_keys.json").read_text())


def saved(folder, **options):
    path = folder / "focus.p"
    torch.save(focus.as_saved(focus.drawn(focus.keys(**focus.TINY, **options))), path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("focus"))


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory):
    """The exported file of each choice of --task."""
    folder = tmp_path_factory.mktemp("exported")
    for task in ("both", "depth", "segmentation"):
        command = ("export", "--backbone", NAME, "--task", task, "--weights", checkpoint, "-o", folder / task)
        assert call([*map(str, command)]) == 0
    return {task: next((folder / task).glob("*.onnx")) for task in ("both", "depth", "segmentation")}


def load(path, task="both", **model):
    return load_weights(load_recipe(NAME, task=task, model=model).model, path)


def infer(path, pixels):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixel_values": pixels.numpy()}), strict=True))


@pytest.mark.parametrize("name", ["focus-base", "focus-large"])
@pytest.mark.parametrize("task", ["both", "depth", "segmentation"])
def test_every_key_of_the_published_layout_has_its_place(name, task):
    shapes = focus.keys() if name == "focus-base" else focus.keys(width=1024, depth=24)
    listing = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(shapes.items()))
    assert KEYS[name] == {"keys": len(shapes), "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    recipe = load_recipe(name, task=task)
    family = detect(shapes, recipe.model.task)
    matched, _ = match_keys(recipe.model, shapes, family)
    assert matched.fits
    assert len(matched.used) == len(shapes) - 4 - (0 if task == "both" else 6)
    assert not family.image.differences(recipe.image)
    assert (family.name, family.licence) == ("antocad/FocusOnDepth", "MIT")


@pytest.mark.parametrize("readout", ["project", "add", "ignore"])
def test_the_network_equals_plain_functions_of_the_file(readout, tmp_path):
    theirs = {"project": "projection"}.get(readout, readout)
    path = saved(tmp_path, readout=theirs)
    state = torch.load(path)["model_state_dict"]
    model, _ = load(path, readout=readout)
    for size in SIZES:
        pixels = focus.image(*size)
        with torch.inference_mode():
            wanted = focus.forward(state, pixels, readout=theirs)
            assert focus.distances(model(pixels), wanted) <= LIMIT
            assert focus.distances(deployable(model)(pixels), wanted) <= LIMIT


def test_one_head_equals_its_part_of_both(checkpoint):
    pixels = focus.image(2, 64, 96)
    depth, logits = load(checkpoint)[0](pixels)
    for task, wanted, reason in (("depth", depth, "head of scores"), ("segmentation", logits, "head of depth")):
        model, match = load(checkpoint, task)
        assert model(pixels).equal(wanted)
        dropped = [key for key, why in match.unused if why == f"{reason}, which was not asked for"]
        assert len(dropped) == 6


def test_one_file_has_both_outputs_each_verified(files, checkpoint, capsys):
    assert [(each.name, each.task) for each in read_sidecar(files["both"]).outputs] == [
        ("predicted_depth", "relative-depth"),
        ("logits", "scores"),
    ]
    cases = json.loads(fine(capsys, "verify", files["both"], "--res", "32,96x160", "--batch", "2", "--json"))["cases"]
    assert {(case["output"], case["passed"]) for case in cases} == {(name, True) for name in OUTPUTS}
    state = torch.load(checkpoint)["model_state_dict"]
    for size in SIZES:
        pixels = focus.image(*size)
        found = [torch.from_numpy(each) for each in infer(files["both"], pixels).values()]
        assert focus.distances(found, focus.forward(state, pixels)) <= LIMIT


def test_it_equals_the_single_files_bit_for_bit(files):
    pixels = focus.image(2, 64, 96)
    both = infer(files["both"], pixels)
    assert list(both) == OUTPUTS
    for task, name in zip(("depth", "segmentation"), OUTPUTS, strict=True):
        single = infer(files[task], pixels)
        assert list(single) == [name]
        np.testing.assert_array_equal(both[name], single[name])


def test_inspect_names_both_tasks_and_run_writes_both_maps(files, tmp_path, capsys):
    assert "tiny-focus, depth and segmentation" in fine(capsys, "inspect", files["both"])
    assert "depth and" not in fine(capsys, "inspect", files["depth"])
    fine(capsys, "run", files["both"], PHOTOGRAPH, "--size", "96", "-o", tmp_path)
    assert {"coffee-predicted_depth.pfm", "coffee-logits-labels.png"} <= {path.name for path in tmp_path.iterdir()}


def test_bench_times_the_run_that_has_both(files, capsys):
    options = ("--res", "32", "--runtime", "torch,ort", "--seconds", "0.1", "--no-memory", "--json")
    found = json.loads(fine(capsys, "bench", files["both"], *options))
    assert {row["contender"] for row in found["rows"]} == {"torch", "ort"}


def test_a_file_with_one_head_names_the_task_that_it_has(tmp_path):
    for head, asked in (("depth", "both"), ("depth", "segmentation"), ("segmentation", "both")):
        with pytest.raises(BadFileError) as caught:
            load(saved(tmp_path, heads=(head,)), asked)
        assert f"--task {head}" in caught.value.hint
        assert load(tmp_path / "focus.p", head)[1].fits


def test_another_number_of_classes_is_named(tmp_path):
    path = saved(tmp_path, classes=5)
    for task in ("both", "segmentation"):
        with pytest.raises(CheckpointMismatchError) as caught:
            load(path, task)
        assert caught.value.hint == "use --classes 5"
    assert load_weights(load_recipe(NAME, task="both", classes=5).model, path)[1].fits


def test_an_own_file_of_both_is_exported_as_both(checkpoint, tmp_path, capsys):
    options = ("--weights", checkpoint, "--to", "native", "-o", tmp_path)
    fine(capsys, "convert", "--backbone", NAME, "--task", "both", *options)
    path = tmp_path / "tiny-focus-both2.safetensors"
    pixels = focus.image(1, 32, 64)
    assert all(map(torch.equal, load(path)[0](pixels), load(checkpoint)[0](pixels)))
    assert load(path, "depth")[0](pixels).equal(load(checkpoint, "depth")[0](pixels))
    with pytest.raises(BadFileError) as caught:
        load(path, "segmentation")
    assert "--task both" in caught.value.hint
    fine(capsys, "convert", "--backbone", NAME, "--task", "segmentation", *options)
    assert load(tmp_path / "tiny-focus.safetensors", "segmentation")[1].fits


def test_weights_that_are_not_fetched_are_named(tmp_path, capsys):
    for task in ("both", "depth", "segmentation"):
        said = complaint(capsys, 2, "export", "--backbone", "focus-base", "--task", task, "-o", tmp_path)
        assert "FocusOnDepth_vit_base_patch16_384.p, which its authors keep on a web drive" in said
        assert "give --weights FILE" in said
