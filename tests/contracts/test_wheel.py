"""Contents of the wheel, and its work in an environment without the repository."""

import json
import zipfile
from pathlib import Path

import pytest

from dpt_deploy.core.recipe import zoo_names

pytestmark = pytest.mark.xdist_group("wheel")

WANTED = {
    "dpt_deploy/__main__.py",
    "dpt_deploy/py.typed",
    "dpt_deploy/data/weights.toml",
    "dpt_deploy/data/palettes/ade20k.txt",
    "dpt_deploy/data/photographs/coffee.jpg",
    *(f"dpt_deploy/data/recipes/{name}.toml" for name in zoo_names()),
}
LICENCES = ("LICENSE", "THIRD_PARTY.md")
TINY = "tests/support/recipes/tiny-vit.toml"


def complaints(names):
    """List the faults in the contents of a wheel."""
    found = [f"missing {name}" for name in sorted(WANTED - set(names))]
    licences = {name.partition(".dist-info/licenses/")[2] for name in names}
    found += [f"missing licence {licence}" for licence in LICENCES if licence not in licences]
    for name in names:
        top = name.partition("/")[0]
        if top != "dpt_deploy" and not top.endswith(".dist-info"):
            found.append(f"surplus {name}")
        if "__pycache__" in name or name.endswith((".pt", ".onnx")):
            found.append(f"surplus {name}")
    return found


def test_the_wheel_holds_what_run_time_needs_and_nothing_else(wheel, root):
    names = zipfile.ZipFile(wheel).namelist()
    assert complaints(names) == []
    sources = {str(path.relative_to(root)) for path in (root / "dpt_deploy").rglob("*.py")}
    assert sources == {name for name in names if name.endswith(".py")}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda names: [*names, "tests/cli/test_cli.py"], "surplus tests/cli/test_cli.py"),
        (lambda names: [*names, "export/to_onnx.py"], "surplus export/to_onnx.py"),
        (lambda names: [name for name in names if not name.endswith("py.typed")], "missing dpt_deploy/py.typed"),
        (lambda names: [name for name in names if not name.endswith("/LICENSE")], "missing licence LICENSE"),
    ],
    ids=["a test", "a script", "no marker", "no licence"],
)
def test_a_wrong_wheel_is_noticed(wheel, change, complaint):
    assert complaints(change(zipfile.ZipFile(wheel).namelist())) == [complaint]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def installed(wheel, python, cache, tmp_path_factory):
    """Run the command line of the installed wheel from a folder outside the repository."""
    target = tmp_path_factory.mktemp("target")
    done = python("-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "-q", "--target", target, wheel)
    assert done.code == 0, done.err
    folder, home = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("home")
    env = {"PYTHONPATH": str(target), "DPT_DEPLOY_CACHE": str(cache), "HOME": str(home)}

    def run(*arguments):
        where = python("-P", "-c", "import dpt_deploy; print(dpt_deploy.__file__)", cwd=folder, env=env)
        assert Path(where.out.strip()).is_relative_to(target), where.out + where.err
        done = python("-P", "-m", "dpt_deploy", *arguments, cwd=folder, env=env)
        assert done.code == 0, done.err
        assert list(folder.iterdir()) == [], "something was written where the command was called"
        assert [*home.rglob("*")] == [], "something was written into the user's folder (ONNX Runtime's telemetry?)"
        return done

    return run


@pytest.fixture(scope="module")
def model(installed, root, cache):
    """A tiny model exported from the wheel to where bench looks first."""
    options = ["--backbone", root / TINY, "--weights", "random", "-o", cache / "models"]
    return json.loads(installed("export", *options, "--json").out)["artifact"]


def test_doctor_works_from_the_wheel(installed):
    found = json.loads(installed("doctor", "--json").out)
    assert [row["name"] for row in found["zoo"]] == zoo_names()


@pytest.mark.needs("torch", "onnx", "onnxruntime")
def test_export_and_inspect_work_from_the_wheel(installed, model):
    found = json.loads(installed("inspect", model, "--json").out)
    assert found["sidecar"]["parity"]["verified"] is True


@pytest.mark.needs("torch", "onnx", "onnxruntime")
def test_bench_works_from_the_wheel_with_the_cached_model(installed, root, model):
    options = ["--backbone", root / TINY, "--res", "64x96", "--seconds", "0.1", "--json"]
    done = installed("bench", *options)
    assert {(row["size"], row["contender"]) for row in json.loads(done.out)["rows"]} == {
        ("64x96", "torch"),
        ("64x96", "ort"),
    }
    assert f"{model} is up to date" in done.text


@pytest.mark.needs("torch", "onnx", "onnxruntime", "cv2")
def test_demo_works_from_the_wheel(installed, root, model):
    folder = Path(model).parent
    shown = installed("demo", "--backbone", root / TINY, "--seconds", "0.1", "-o", folder)
    assert (folder / "tiny-vit-fp32-coffee.png").read_bytes().startswith(b"\x89PNG")
    assert "random, seed 0: it has learned nothing" in shown.text
