"""The kit for the published weights, rehearsed against a local server with synthetic files."""

import hashlib
import http.server
import importlib
import json
import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from support.paths import ROOT
from support.tiny import tiny_model, tiny_path, tiny_recipe

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.published import default_for

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime")


@pytest.fixture
def kit(monkeypatch):
    """The modules of the kit, which import each other by their bare names."""
    monkeypatch.syspath_prepend(ROOT / "tools/online_kit")
    yield importlib.import_module("check_published"), importlib.import_module("checks")
    for name in ("check_published", "checks"):
        sys.modules.pop(name, None)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server with two synthetic checkpoints: a good one, and one that is no checkpoint; their table entries."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(tiny_model("tiny-vit").state_dict(), folder / "good.pt")
    (folder / "bad.pt").write_bytes(b"no checkpoint")
    handler = partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield [entry(folder / name, server.server_port) for name in ("good.pt", "bad.pt")]
    server.shutdown()
    server.server_close()
    thread.join()


def entry(path, port):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    base = replace(default_for("hybrid", "depth"), file=path.name, sha256=digest, size_bytes=0)
    return replace(base, address=f"http://127.0.0.1:{port}/{path.name}", recipe=tiny_path("tiny-vit"))


def test_every_step_of_a_good_file_gives_a_number_and_a_bad_one_is_recorded(kit, served, tmp_path, monkeypatch):
    run, _ = kit
    monkeypatch.setattr(run, "published", lambda: served)
    result = tmp_path / "result.json"
    assert run.main(["-o", str(result)]) == 1
    files = json.loads(result.read_text())["files"]
    good, bad = files["good.pt"], files["bad.pt"]
    assert good["fetch"]["sha256"] == hashlib.sha256((tmp_path / "served/good.pt").read_bytes()).hexdigest()
    assert good["fetch"]["checked"] == "8 digits"
    assert good["load"]["parameters"] == sum(each.numel() for each in tiny_model("tiny-vit").parameters())
    assert "no numbers" in good["compare"]["skipped"]
    assert 0 < good["export"]["max"] < 1e-4
    assert good["export"]["cases"] > 1
    assert good["score"]["explained_variance"] <= 1
    assert "error" in bad["load"]
    assert "export" not in bad


def test_a_second_run_goes_on(kit, served, tmp_path, monkeypatch):
    run, steps = kit
    calls = []
    fakes = {name: lambda _task, name=name: calls.append(name) or {} for name in steps.STEPS}
    monkeypatch.setattr(run, "published", lambda: served[:1])
    monkeypatch.setattr(run, "STEPS", fakes)
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"files": {"good.pt": {"fetch": {"sha256": "x"}, "load": {"error": "broken"}}}}))
    assert run.main(["-o", str(result)]) == 0
    assert calls == ["load", "compare", "export", "score"]


def test_a_file_that_no_program_can_fetch_is_skipped(kit, served, tmp_path, monkeypatch):
    run, _ = kit
    monkeypatch.setattr(run, "published", lambda: [replace(served[0], address="")])
    assert run.main(["-o", str(tmp_path / "result.json")]) == 0
    assert "web drive" in (tmp_path / "result.json").read_text()


@pytest.mark.parametrize("shift", [0.0, 0.01], ids=["equal", "different"])
def test_the_published_numbers_are_compared(shift, kit, served, tmp_path, monkeypatch):
    _, steps = kit
    photograph = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(photograph)
    recipe = tiny_recipe("tiny-vit")
    encoder = replace(recipe.model.encoder, norm_eps=1e-12)
    model, _ = steps.load_weights(replace(recipe.model, encoder=encoder), tmp_path / "served/good.pt")
    numbers = steps.corner(model, steps.huggingface_pixels(photograph, 96)) * (1 + shift)
    known = {"recipe": served[0].recipe, "task": "depth", "side": 96, "factor": 1.0, "corner": numbers.tolist()}
    table = tmp_path / "slices.json"
    table.write_text(json.dumps({"slices": [known]}))
    monkeypatch.setattr(steps, "SLICES", table)
    given = steps.Task(served[0], recipe, tmp_path, photograph)
    if shift:
        with pytest.raises(ValueError, match="differs by"):
            steps.compared(given)
    else:
        assert steps.compared(given)["largest_relative_difference"] == 0


def test_the_table_of_numbers_belongs_to_recipes(kit):
    _, steps = kit
    for known in json.loads(steps.SLICES.read_text())["slices"]:
        assert load_recipe(known["recipe"], task=known["task"])
        assert np.array(known["corner"]).shape == (3, 3)


def test_the_share_of_variance_is_that_of_a_line(kit):
    _, steps = kit
    target = np.linspace(1, 2, 50)
    assert steps.explained(3 * target + 1, target) == pytest.approx(1)
    assert steps.explained(np.random.default_rng(0).normal(size=50), target) < 0.2
