"""Kills before each rename and removal of five commands: after the next run, the former or the new results, whole."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import study as studies
from support.disks import full_disk
from support.faults import quick
from support.faults.calling import complaint, fine
from support.faults.handmade import NAME, handmade, listing, payloads
from support.faults.kills import killed_everywhere
from support.tiny import copied, exported, tiny_model, tiny_path, tiny_recipe

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.build import build
from dpt_deploy.jobs.study import study
from dpt_deploy.jobs.train import train
from dpt_deploy.jobs.train.loop import History
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.checkpoints.read import read_checkpoint

FILES = ["tiny-vit-fp32.onnx", "tiny-vit-fp32.onnx.golden.npz", "tiny-vit-fp32.onnx.json"]


def walk(out, former, act, next_run, is_new):
    """Kill ``act`` everywhere. ``is_new`` checks that the results in ``out`` are whole; True if they are the new ones.

    The decision falls once: before it the former results stay, after it the new ones count.
    """

    def prepare():
        shutil.rmtree(out, ignore_errors=True)
        former()

    found = []
    for _ in killed_everywhere(out, prepare, act):
        found.append(is_new())
        next_run()
        assert not [name for name in listing(out) if name.startswith(".")]
    assert found == sorted(found)
    assert set(found) == {False, True}
    assert is_new()


def test_an_export(tmp_path, monkeypatch, capsys):
    made, out = exported("tiny-vit"), tmp_path / "out"
    quick.install(monkeypatch.setattr, made)
    quick.without_torch(monkeypatch.setattr, made)

    def export(seed, *options):
        weights = ("--weights", f"random:{seed}")
        assert call(["export", "--backbone", tiny_path("tiny-vit"), *weights, "-o", str(out), *options]) == 0

    def seed():
        return open_artifact(out / FILES[0]).sidecar.weights.seed

    walk(out, lambda: copied(made, out), lambda: export(7, "--force"), lambda: export(seed()), lambda: seed() == 7)
    assert sorted(listing(out)) == FILES


def test_a_build(tmp_path, monkeypatch):
    out = tmp_path / "out"
    made = handmade(tmp_path / "made")
    new = WeightsSource("random", seed=7)
    request = SimpleNamespace(edition="fake", profiles=(), device=None, options=SimpleNamespace(strip_weights=True))
    request.costs = ()

    def write(_request, plan, _cache):
        assert plan.name == NAME
        return replace(payloads(plan.parent, "new"), weights=new)

    monkeypatch.setattr(build, "request_engine", lambda *_args: request)
    monkeypatch.setattr(build, "_check_machine", lambda _request: None)
    monkeypatch.setattr(build, "_write", write)
    monkeypatch.setattr(build, "find_finished", lambda target, _request: open_artifact(target))
    monkeypatch.setattr(build.Path, "with_suffix", lambda self, _suffix: self)
    walk(
        out,
        lambda: handmade(out),
        lambda: build.build_engine_artifact(made.path, out, force=True),
        lambda: build.build_engine_artifact(made.path, out),
        lambda: open_artifact(out / NAME).sidecar.weights == new,
    )


def test_a_conversion(tmp_path):
    out = tmp_path / "out"
    models = [tiny_model("tiny-vit", seed) for seed in (0, 1)]
    image = tiny_recipe("tiny-vit").image
    for name, model in zip(("former", "new"), models, strict=True):
        save_huggingface(model, tmp_path / name, image=image)
    former, new = listing(tmp_path / "former"), listing(tmp_path / "new")

    def is_new():
        assert read_checkpoint(out).config is not None  # finishes what was decided
        shown = {name: data for name, data in listing(out).items() if "/" not in name}
        assert shown in (former, new)
        return shown == new

    def convert(number):
        save_huggingface(models[number], out, image=image)

    walk(
        out,
        lambda: shutil.copytree(tmp_path / "former", out),
        lambda: convert(1),
        lambda: convert(int(is_new())),
        is_new,
    )


def test_a_training(tmp_path, monkeypatch):
    out = tmp_path / "out"
    models = {0: tiny_model("tiny-vit", 0), 1: tiny_model("tiny-vit", 1)}
    recipe = tiny_recipe("tiny-vit")
    for step in ("check_device", "_objective", "_identity", "_batches"):
        monkeypatch.setattr(train, step, lambda *_args: None)
    monkeypatch.setattr(train, "_recipe", lambda _config: recipe)
    monkeypatch.setattr(train, "_network", lambda config, _recipe: (models[config.seed], ""))
    monkeypatch.setattr(train, "fit", lambda *_args, **_options: History())
    monkeypatch.setattr(train, "asdict", lambda config: {"seed": config.seed})
    monkeypatch.setattr(train, "validate", lambda *_args: SimpleNamespace(to_dict=dict))

    def run(seed):
        schedule = SimpleNamespace(steps=1, batch=1, encoder_rate=1.0)
        train.train_model(SimpleNamespace(seed=seed, schedule=schedule, validation=None), out)

    run(0)
    shutil.move(out, tmp_path / "former")

    def is_new():
        with train.staged_files(out, f"{recipe.name}.safetensors"):
            pass  # the next run, which ends before it has anything to write
        seed = json.loads((out / f"training-{recipe.name}.json").read_text())["plan"]["seed"]
        weights = read_checkpoint(out / f"{recipe.name}.safetensors").tensors
        assert all((weights[key] == value.half()).all() for key, value in models[seed].state_dict().items())
        return seed == 1

    walk(out, lambda: shutil.copytree(tmp_path / "former", out), lambda: run(1), lambda: run(0), is_new)


def test_a_models_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / study.MODELS).symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="models is a symbolic link"):
        study.run_study(SimpleNamespace(), tmp_path / "out")


@pytest.mark.parametrize("layout", ["huggingface", "native"])
def test_a_full_disk_leaves_a_converted_checkpoint(layout, tmp_path, capsys):
    save_native(tiny_model("tiny-vit", 0), tmp_path / "weights.safetensors")
    save_native(tiny_model("tiny-vit", 1), tmp_path / "others.safetensors")
    argv = ["convert", "--backbone", tiny_path("tiny-vit"), "--to", layout, "-o", tmp_path / "out", "--weights"]
    fine(capsys, *argv, tmp_path / "weights.safetensors")
    before = listing(tmp_path / "out")
    for limit in (100, 20_000):
        with full_disk(limit):
            complaint(capsys, 7, *argv, tmp_path / "others.safetensors")
        assert listing(tmp_path / "out") == before
    fine(capsys, *argv, tmp_path / "others.safetensors")
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_a_study(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    found = {name: studies.made(noise=noise) for name, noise in (("old", 0.005), ("new", 0.006))}
    monkeypatch.setattr(study, "prepare_study", lambda _request: None)

    def run(name):
        monkeypatch.setattr(study, "run_study", lambda *_args, **_options: (found[name], []))
        assert call(["study", "--no-plot", "-o", str(out)]) == 0

    texts = {}
    for name in found:
        run(name)
        texts[name] = listing(out)
    assert texts["old"] != texts["new"]

    def is_new():
        from dpt_deploy.jobs.study.agreement import read_recorded  # noqa: PLC0415  finishes what was decided

        read_recorded(out / "study.json")
        shown = {name: data for name, data in listing(out).items() if "/" not in name}
        assert shown in texts.values()
        return shown == texts["new"]

    walk(out, lambda: run("old"), lambda: run("new"), lambda: run("new" if is_new() else "old"), is_new)
