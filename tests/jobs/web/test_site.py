"""The page: its folder, refusals, the server's headers, and headless Chromium on what was written."""

import hashlib
import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny import copied, exported
from support.web_page import give_photo, open_page, read_pfm, saved, served

from dpt_deploy import cli, load
from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.imaging.files import colorize, read_image, write_picture
from dpt_deploy.jobs.web import vendor
from dpt_deploy.jobs.web.server import make_server
from dpt_deploy.jobs.web.site import INDEX, write_site

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")


@pytest.fixture
def runtime(tmp_path):
    """A folder that has the names of the npm package, and other content."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": vendor.VERSION}))
    for name in vendor.FILES:
        (folder / "dist" / name).write_text(name)
    return folder


def test_the_folder_has_the_page_the_models_and_the_runtime(runtime, tmp_path):
    model, labels = exported("tiny-vit"), exported("tiny-seg")
    site = write_site([model.path, labels.path], tmp_path / "site", runtime=runtime)
    assert {path.name for path in (site / "runtime").iterdir()} == set(vendor.FILES)
    assert (site / "models" / model.path.name).read_bytes() == model.path.read_bytes()
    depth, classes = json.loads((site / INDEX).read_text())["models"]
    assert (depth["output"]["resample"], depth["palette"]) == ("restore", None)
    assert (classes["output"]["resample"], len(classes["palette"])) == ("argmax", labels.sidecar.model.num_classes + 1)


def test_each_output_of_a_joint_file_is_offered_and_the_file_is_there_once(runtime, tmp_path):
    model = exported("tiny-vit-both")
    site = write_site([model.path], tmp_path / "site", runtime=runtime)
    depth, classes = json.loads((site / INDEX).read_text())["models"]
    assert (depth["name"], classes["name"]) == ("tiny-vit-both, depth", "tiny-vit-both, labels")
    assert (depth["output"]["name"], classes["output"]["name"]) == ("predicted_depth", "logits")
    assert (depth["palette"], len(classes["palette"])) == (None, 7 + 1)
    assert depth["file"] == classes["file"]
    assert [path.name for path in (site / "models").glob("*.onnx")] == [model.path.name]


def test_a_page_is_replaced_on_request_only(runtime, tmp_path):
    model, out = exported("tiny-vit").path, tmp_path / "site"
    write_site([model], out, runtime=runtime)
    with pytest.raises(UsageError, match="already"):
        write_site([model], out, runtime=runtime)
    write_site([model], out, runtime=runtime, force=True)


def test_another_runtime_is_refused_and_nothing_is_left(runtime, tmp_path):
    (runtime / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "1.0.0"}))
    with pytest.raises(BadFileError, match=r"onnxruntime-web 1\.0\.0; expected"):
        write_site([exported("tiny-vit").path], tmp_path / "site", runtime=runtime)
    assert not (tmp_path / "site").exists()


def test_a_runtime_without_its_files_is_refused(runtime, tmp_path):
    (runtime / "dist" / vendor.FILES[0]).unlink()
    with pytest.raises(BadFileError, match="has no dist/"):
        write_site([exported("tiny-vit").path], tmp_path / "site", runtime=runtime)


def test_no_npm_is_a_clear_message(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="npm is not installed") as caught:
        write_site([exported("tiny-vit").path], tmp_path / "site")
    assert "--onnxruntime-web FOLDER" in caught.value.hint


def test_an_archive_with_another_hash_is_refused(tmp_path):
    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(BadFileError, match="expected sha512-"):
        vendor.check_integrity(archive)


def test_a_model_with_separate_weights_is_refused(runtime, tmp_path):
    model = copied(exported("tiny-vit"), tmp_path)
    (tmp_path / "more.data").write_bytes(b"x")
    payload = replace(
        model.sidecar.payloads[0], name="more.data", size_bytes=1, sha256=hashlib.sha256(b"x").hexdigest()
    )
    write_sidecar(model.path, replace(model.sidecar, payloads=(*model.sidecar.payloads, payload)))
    with pytest.raises(UsageError, match=r"weights in more\.data"):
        write_site([model.path], tmp_path / "site", runtime=runtime)


def test_a_model_whose_sky_the_page_does_not_fill_is_refused(runtime, tmp_path):
    with pytest.raises(UsageError, match="the page does not fill it") as caught:
        write_site([exported("tiny-sky").path], tmp_path / "site", runtime=runtime)
    assert "--task depth" in caught.value.hint


def test_the_command_without_a_model(tmp_path, capsys):
    assert cli.call(["web", "-o", str(tmp_path / "site")]) == 2
    assert "no artefact" in capsys.readouterr().err


def test_the_server_sends_types_and_headers(tmp_path):
    (tmp_path / "a.mjs").write_text("")
    (tmp_path / "a.wasm").write_text("")
    with served(tmp_path) as server:
        types = []
        for name in ("a.mjs", "a.wasm"):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{name}") as answer:
                types.append(answer.headers["Content-Type"])
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        with pytest.raises(ResourceError, match="cannot be used"):
            make_server(tmp_path, server.server_port)
        server.shutdown()
    assert types == ["text/javascript", "application/wasm"]


def test_inferno_is_that_of_opencv():
    text = (Path(cli.__file__).parents[1] / "data/web/inferno.js").read_text("utf-8")
    table = bytes.fromhex("".join(text.split('"')[1::2]))
    assert table == colorize(np.arange(256, dtype=np.float32)[None]).tobytes()


def test_chromium_computes_the_map_of_python(tmp_path):
    model, picture = exported("tiny-vit").path, tmp_path / "photo.png"
    write_picture(picture, np.random.default_rng(3).integers(0, 256, (75, 110, 3), np.uint8))
    with open_page(model, tmp_path) as page:
        give_photo(page, picture)
        found = read_pfm(saved(page, "pfm"))
        refused = page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert all(url.startswith((page.origin, "blob:", "data:")) for url in page.requests if "example.org" not in url)
    expected = load(model).predict(read_image(picture)).depth
    assert found.shape == (75, 110)
    assert np.abs(found - expected).max() / np.ptp(expected) < 1e-4
    assert np.abs(found[::-1] - expected).max() / np.ptp(expected) > 1e-4  # a planted fault: rows upside down
