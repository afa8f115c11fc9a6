"""A shipped model runs by its name; other names say what to do."""

import pytest
from support.faults.calling import complaint, fine
from support.paths import ROOT
from support.tiny import tiny_model, tiny_path

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.export import named
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.checkpoints.load import save_native

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture
def small_zoo(monkeypatch, tmp_path):
    """The name ``tiny-vit`` stands for a network of the tests, with weights next to it."""
    weights = tmp_path / "tiny-vit.safetensors"
    save_native(tiny_model("tiny-vit"), weights)
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(named, "load_recipe", lambda name: load_recipe(tiny_path(name) if name == "tiny-vit" else name))
    shipped = named.shipped_for
    monkeypatch.setattr(named, "shipped_for", lambda recipe: weights if recipe.name == "tiny-vit" else shipped(recipe))
    request = named.ExportRequest
    monkeypatch.setattr(named, "ExportRequest", lambda recipe: request(recipe, weights=str(weights)))
    return tmp_path


def test_a_shipped_model_is_exported_once_and_run(small_zoo, capsys):
    out = small_zoo / "depth.png"
    fine(capsys, "run", "tiny-vit", PHOTOGRAPH, "-o", out)
    (model,) = (small_zoo / "cache").rglob("tiny-vit-fp32.onnx")
    written = model.stat().st_mtime_ns
    fine(capsys, "run", "tiny-vit", PHOTOGRAPH, "-o", out)
    assert model.stat().st_mtime_ns == written


def test_a_model_without_shipped_weights_is_named_with_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = complaint(capsys, 2, "run", "hybrid", PHOTOGRAPH)
    assert "dpt-deploy export --backbone hybrid -o out/" in message
    assert "tiny, tiny-both, tiny-conv, tiny-vit" in message


@pytest.mark.parametrize(
    ("task", "classes", "stem"),
    [
        (None, None, "tiny-both-fp32"),
        ("both", 10, "tiny-both-fp32"),
        ("both", 3, "tiny-both-both3-fp32"),
        ("depth", None, "tiny-both-depth-fp32"),
        ("segmentation", None, "tiny-both-seg10-fp32"),
    ],
)
def test_a_file_is_named_after_what_differs_from_the_recipe(task, classes, stem):
    assert ExportRequest(load_recipe("tiny-both", task=task, classes=classes)).stem == stem
    assert ExportRequest(load_recipe("tiny", task="both")).stem == "tiny-both150-fp32"
    assert ExportRequest(load_recipe("tiny", task="depth")).stem == "tiny-fp32"


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text("no model")
    assert "has no sidecar" in complaint(capsys, 4, "run", "tiny", PHOTOGRAPH)
