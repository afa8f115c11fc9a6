"""Wrong arguments on the command line: one line of what was found, one of what to do, the right exit code, no file."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.faults.calling import complaint, fine
from support.faults.handmade import listing
from support.tiny import copied, exported, tiny_path, tiny_recipe, tiny_spec
from support.training import TRAINING

from dpt_deploy.cli import call, export
from dpt_deploy.core.size import Size
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.runtime.onnxruntime import OrtRunner

VIT = tiny_path("tiny-vit")
RANDOM = ("export", "--backbone", VIT, "--weights", "random")


@pytest.fixture
def artifact(tmp_path):
    return copied(exported("tiny-vit"), tmp_path).path


@pytest.fixture
def static(tmp_path):
    return copied(exported("tiny-vit", static=Size(64, 96)), tmp_path).path


# --- export -----------------------------------------------------------------------------------------------------------

EXPORTS = {
    "no backbone": (("export",), "Missing option '--backbone'"),
    "backbone": (("export", "--backbone", "bass"), "did you mean base?"),
    "empty backbone": (("export", "--backbone", ""), "unknown backbone ''"),
    "task": ((*RANDOM, "--task", "pose"), "'pose' is not one of 'depth', 'segmentation'"),
    "no such task": (("export", "--backbone", tiny_path("tiny-seg"), "--task", "depth"), "not depth"),
    "precision": ((*RANDOM, "--precision", "int4"), "available: fp32"),
    "opset": ((*RANDOM, "--opset", "19"), "opset 19 is not offered; expected one of 20, 23"),
    "opset 0": ((*RANDOM, "--opset", "0"), "opset 0 is not offered"),
    "opset text": ((*RANDOM, "--opset", "new"), "'new' is not a valid integer"),
    "labels of depth": ((*RANDOM, "--output", "labels"), "--output labels needs a segmentation model"),
    "classes of depth": ((*RANDOM, "--classes", "5"), "--classes needs a segmentation model"),
    "no classes": ((*RANDOM, "--task", "segmentation", "--classes", "0"), "0 is not in the range 1<=x<=65535"),
    "huge classes": ((*RANDOM, "--task", "segmentation", "--classes", "1000000000"), "1000000000 is not in the range"),
    "empty weights": (("export", "--backbone", VIT, "--weights", ""), "--weights is empty"),
    "unpublished": (("export", "--backbone", "base"), "no depth checkpoint of 'base' was published"),
    "static 33": ((*RANDOM, "--static", "33"), "the nearest legal sizes: 32 or 64"),
    "static 0": ((*RANDOM, "--static", "0x64"), "the nearest legal sizes: 32x64"),
    "static text": ((*RANDOM, "--static", "big"), "size 'big' is not understood"),
    "option": ((*RANDOM, "--fast"), "--fast"),
}


@pytest.mark.parametrize(("argv", "said"), EXPORTS.values(), ids=EXPORTS)
def test_an_export_that_cannot_be_is_refused(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert said in complaint(capsys, 2, *argv)
    assert listing(tmp_path) == {}


def recipe(folder, text):
    (folder / "r.toml").write_text(text)
    return folder / "r.toml"


RECIPES = {
    "missing": (None, "does not exist"),
    "not toml": ("[[", "is not valid TOML"),
    "unknown key": (f'base = "{VIT}"\nspeed = 9', "unknown key 'speed'"),
    "folder in name": (f'base = "{VIT}"\nname = "../x"', "name is '../x'; it has a separator"),
    "escape in name": (f'base = "{VIT}"\nname = "\\u001b]0;x"', "it has a control character"),
    "heads": (f'base = "{VIT}"\nmodel = {{encoder = {{heads = 7}}}}', "7 heads of a width of"),
    "deep": ("a = " + "[" * 5000, "nested too deeply"),
    "deep keys": ("[" + ".".join("a" * 5000) + "]", "nested more than 64 levels"),
    "digits": (f'base = "{VIT}"\nopset = 1{"0" * 400}', "expected a smaller number"),
    "std": (f'base = "{VIT}"\nimage = {{std = [0.5, 0.5, nan]}}', "expected a finite number"),
    "another source of a network": (
        'base = "resnext101"\nmodel = {encoder = {timm_name = "hf-hub:timm/resnet18"}}',
        "expected the plain name of an architecture of timm",
    ),
    "folder of a network": (
        'base = "resnext101"\nmodel = {encoder = {timm_name = "local-dir:/tmp"}}',
        "expected the plain name of an architecture of timm",
    ),
    "no such network": ('base = "resnext101"\nmodel = {encoder = {timm_name = "resnet9000"}}', "has no network"),
    "tap": (f'base = "{VIT}"\nmodel = {{taps = [0, 1, 2, 9]}}', "tap 9 of an encoder of 4 blocks"),
}


@pytest.mark.parametrize(("text", "said"), RECIPES.values(), ids=RECIPES)
def test_a_bad_recipe_is_refused(text, said, tmp_path, capsys):
    path = tmp_path / "absent.toml" if text is None else recipe(tmp_path, text)
    assert said in complaint(capsys, 4, "export", "--backbone", path, "--weights", "random", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("../../x", "it has a separator"), ("\\u001b]0;x", "it has a control character")],
    ids=["folder", "escape"],
)
@pytest.mark.parametrize("command", ["convert", "train"])
def test_a_recipe_with_an_unsafe_name_is_refused_by_other_commands(command, name, said, tmp_path, capsys):
    path = recipe(tmp_path, f'base = "{VIT}"\nname = "{name}"')
    training = tmp_path / "training.toml"
    training.write_text(TRAINING.format(backbone=path.name, task="depth"))
    before = listing(tmp_path)
    given = [training] if command == "train" else ["--backbone", path, "--weights", "random"]
    assert said in complaint(capsys, 4, command, *given, "-o", tmp_path / "out")
    assert listing(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_tolerance_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "load_recipe", lambda *_args, **_options: replace(tiny_recipe("tiny-vit"), parity={}))
    assert "states no tolerance for fp32" in complaint(capsys, 4, *RANDOM, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- sizes and batches ------------------------------------------------------------------------------------------------

SIZES = {
    "33": "the nearest legal sizes: 32 or 64",
    "0": "the nearest legal sizes: 32",
    "64,100x200": "the nearest legal sizes: 96x192 or 128x224",
    "-32": "is not understood",
    "32x": "is not understood",
    "32x32x32": "is not understood",
    "large": "is not understood",
    "9" * 5000: "is not understood",
    "": "--res is empty",
    ",": "--res is empty",
}


@pytest.mark.parametrize("command", ["verify", "bench"])
@pytest.mark.parametrize(("size", "said"), SIZES.items(), ids=[size[:12] or "empty" for size in SIZES])
def test_a_wrong_size_is_refused(command, size, said, artifact, capsys):
    before = listing(artifact.parent)
    assert said in complaint(capsys, 2, command, artifact, "--res", size)
    assert listing(artifact.parent) == before


@pytest.mark.parametrize("batch", ["0", "-1", "1.5", "two", "", ",", "9" * 5000], ids=lambda text: text[:5] or "empty")
def test_a_wrong_batch_is_refused(batch, artifact, capsys):
    assert "batch" in complaint(capsys, 2, "verify", artifact, "--res", "32", "--batch", batch)


def test_right_sizes_and_batches_pass(artifact, capsys):
    out = fine(capsys, "verify", artifact, "--res", "32,,64x96", "--batch", "1, 2")
    assert [line.split()[:2] for line in out.splitlines() if "pass" in line] == [
        ["32", "1"],
        ["32", "2"],
        ["64x96", "1"],
        ["64x96", "2"],
    ]


HUGE = {
    "verify": ("--res", "100000x100000", "--batch", "1"),
    "batch": ("--res", "64", "--batch", "99999999"),
    "bench": ("--res", "100000"),
    "run": ("photo.png", "--size", "100000"),
}


@pytest.mark.parametrize(("name", "options"), HUGE.items(), ids=HUGE)
def test_more_than_the_memory_is_refused_before_it_is_taken(name, options, artifact, capsys):
    photo = [str(artifact.parent / "photo.png") if part == "photo.png" else part for part in options]
    (artifact.parent / "photo.png").touch()
    command = "verify" if name == "batch" else name
    assert "out of memory: size " in complaint(capsys, 7, command, artifact, *photo)


def test_a_huge_static_export_is_refused_before_the_trace(tmp_path, capsys):
    said = complaint(capsys, 7, *RANDOM, "--static", "100000x100000", "-o", tmp_path / "out")
    assert "out of memory: size 100000, batch 1 needs more than 440 GB" in said
    assert not (tmp_path / "out").exists()


class Full:
    """A session whose machine has no memory left."""

    def __init__(self, error):
        self.error = error

    def run(self, *_args):
        raise self.error

    def get_inputs(self):
        return [SimpleNamespace(name="pixel_values", type="tensor(float)", shape=["batch", 3, "height", "width"])]

    def get_outputs(self):
        return [SimpleNamespace(name="predicted_depth", type="tensor(float)", shape=["batch", "height", "width"])]


OUT_OF_MEMORY = [
    RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 125002000128"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["arena", "bad_alloc", "python"])
def test_memory_that_runs_out_underway_is_reported(error, artifact, monkeypatch, capsys):
    before = listing(artifact.parent)
    monkeypatch.setattr(OrtRunner, "_open", lambda _self: Full(error))
    assert "out of memory" in complaint(capsys, 7, "verify", artifact, "--res", "32", "--batch", "1")
    assert listing(artifact.parent) == before


STATIC = {
    "verify size": (("verify",), ("--res", "64")),
    "verify batch": (("verify",), ("--batch", "2")),
    "bench": (("bench",), ("--res", "96x64")),
    "run": (("run",), ("--size", "128")),
}


@pytest.mark.parametrize(("command", "options"), STATIC.values(), ids=STATIC)
def test_a_static_artefact_runs_at_its_own_size_only(command, options, static, capsys):
    source = [static.parent / "photo.png"] if command == ("run",) else []
    (static.parent / "photo.png").touch()
    said = complaint(capsys, 2, *command, static, *source, *options)
    assert "this artefact is static at 64x96, batch 1; it cannot run" in said
    assert "without --static" in said


def test_a_static_artefact_is_verified_at_its_own_size(static, capsys):
    assert "64x96" in fine(capsys, "verify", static)


# --- other options ----------------------------------------------------------------------------------------------------

OTHERS = {
    "runtime": (("verify", "--runtime", "tpu"), 2, "known: ort, openvino, openvino-bf16, emu, trt, native, torch"),
    "torch runs no file": (("verify", "--runtime", "torch"), 2, "does not run exported files"),
    "golden and size": (("verify", "--golden", "--res", "64"), 2, "at their own size"),
    "golden and weights": (("verify", "--golden", "--weights", "x.pt"), 2, "at their own size"),
    "weights of random": (("verify", "--weights", "x.pt"), 2, "has random weights"),
    "two references": (("verify", "--weights", "x.pt", "--against", "y.pt"), 2, "exclude each other"),
    "against nothing": (("verify", "--against", "absent.pt"), 4, "absent.pt does not exist"),
    "against no model": (("verify", "--against", "absent.onnx"), 4, "absent.onnx does not exist"),
    "candidate": (("bench", "--runtime", "trt9"), 2, "unknown candidate 'trt9'"),
    "no candidate": (("bench", "--runtime", ""), 2, "unknown candidate ''"),
    "no time": (("bench", "--seconds", "0"), 2, "0.0 is not in the range x>0"),
    "no source": (("run",), 2, "Missing argument 'SOURCE'"),
    "huge workspace": (("build", "--workspace", "99999999999999"), 2, "99999999999999 is not in the range"),
    "huge batch": (("build", "--batch", "99999999999999"), 2, "99999999999999 is not in the range"),
}


@pytest.mark.parametrize(("argv", "code", "said"), OTHERS.values(), ids=OTHERS)
def test_other_wrong_options_are_refused(argv, code, said, artifact, capsys):
    before = listing(artifact.parent)
    assert said in complaint(capsys, code, argv[0], artifact, *argv[1:])
    assert listing(artifact.parent) == before


def test_golden_alone_passes(artifact, capsys):
    assert "pass" in fine(capsys, "verify", artifact, "--golden")


def test_another_checkpoint_may_be_compared_and_is_not_recorded(artifact, tmp_path, capsys):
    before = listing(artifact.parent)
    for seed, code in ((0, 0), (1, 5)):
        checkpoint = tmp_path / f"{seed}.safetensors"
        save_native(random_model(tiny_spec("tiny-vit"), seed=seed), checkpoint)
        argv = ["verify", artifact, "--res", "32", "--batch", "1", "--against", checkpoint]
        assert call([str(arg) for arg in argv]) == code
        assert f"against {checkpoint}" in capsys.readouterr().out
        checkpoint.unlink()
        assert listing(artifact.parent) == before
