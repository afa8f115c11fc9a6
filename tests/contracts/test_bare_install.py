"""An install without extras imports, helps, and says what is missing; and help never imports anything heavy.

The bare install is made of links to what the requirements of the package's own metadata pull in, and nothing else, so
that it needs neither the network nor the second that pip takes.
"""

import json
import re
from importlib.metadata import distribution, requires

import pytest

from dpt_deploy.cli import COMMANDS
from dpt_deploy.core.errors import BadFileError, MissingExtraError
from dpt_deploy.core.optional import EXTRA_OF

packaging = pytest.importorskip("packaging.requirements", reason="packaging comes with pytest")

# Modules that may need an extra. No other module may.
LEAVES = re.compile(
    r"dpt_deploy\.(model|graph|engine|runtime|scenes|datasets|report|jobs\.train)(\.\w+)+"
    r"|dpt_deploy\.jobs\.study\.(exported|scene_images|robustness\.corrupted)"
    r"|dpt_deploy\.imaging\.(files|video|formats)"
    r"|dpt_deploy\.jobs\.(demo|export(\.\w+)*|bench\.(bench|case|ceilings|engine_calls|torch_calls|plain_\w+|cached))"
    r"|dpt_deploy\.jobs\.(build\.(build|request|refit\.\w+)|common\.(reference|signature))"
    r"|dpt_deploy\.jobs\.verify\.(variants|type_loss|locate|pytorch|diagnose|served)"
    r"|dpt_deploy\.jobs\.predict\.(files|targets|images|archive\.(archive|worker)|live\.(live|camera|window)|ros\.\w+)"
    r"|dpt_deploy\.jobs\.attack\.(attack|methods|objectives)"
    r"|dpt_deploy\.jobs\.(batch\.\w+|repro\.\w+|serve\.(check|config|image_model|repository))"
)

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, dpt_deploy
from dpt_deploy.core.errors import MissingExtraError
found = {}
for module in pkgutil.walk_packages(dpt_deploy.__path__, "dpt_deploy.", onerror=lambda _gate: None):
    if module.name == "dpt_deploy.__main__":
        continue
    try:
        importlib.import_module(module.name)
        found[module.name] = ""
    except ModuleNotFoundError as exc:
        found[module.name] = exc.name
    except MissingExtraError as exc:
        found[module.name] = exc.__cause__.name
print(json.dumps(found))
"""

HEAVY_AFTER_HELP = """
import sys
{before}
import click
from dpt_deploy.cli import COMMANDS, cli
for command in [[], *([name] for name in COMMANDS)]:
    cli.main([*command, "--help"], standalone_mode=False)
heavy = {heavy}
print("loaded:", *sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""


def closure(names):
    """The distributions that a bare install consists of."""
    found = {}
    while names:
        name = names.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        wanted = [packaging.Requirement(text) for text in found[name].requires or []]
        names += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def bare(root, python, tmp_path_factory):
    """Run this Python where only the base requirements are installed."""
    site = tmp_path_factory.mktemp("site")
    for name, dist in closure(["dpt-deploy"]).items():
        entries = {file.parts[0] for file in dist.files or [] if file.parts[0] not in ("..", "__pycache__")}
        entries = {entry for entry in entries if name != "dpt-deploy" or entry.endswith(".dist-info")}
        for entry in entries:
            (site / entry).symlink_to(dist.locate_file(entry))
    (site / "dpt_deploy").symlink_to(root / "dpt_deploy")

    def run(*arguments):
        folder = tmp_path_factory.mktemp("empty")
        done = python("-S", "-P", *arguments, cwd=folder, env={"PYTHONPATH": str(site)})
        assert list(folder.iterdir()) == [], "something was written"
        return done

    return run


def test_the_base_requirements_are_three():
    wanted = [packaging.Requirement(text) for text in requires("dpt-deploy") or []]
    assert {each.name for each in wanted if each.marker is None} == {"numpy", "click", "rich"}


def test_the_bare_install_is_bare(bare):
    done = bare("-c", f"from importlib.util import find_spec; print([n for n in {list(EXTRA_OF)} if find_spec(n)])")
    assert done.out.strip() == "[]", done.err


def test_everything_but_leaves_imports(bare):
    done = bare("-c", IMPORT_EVERYTHING)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    refused = {module: needed for module, needed in found.items() if needed}
    assert [module for module in refused if not LEAVES.fullmatch(module)] == []
    assert set(refused.values()) <= set(EXTRA_OF), "a module that no extra brings"
    assert len(refused) >= 10  # the blockade works: what needs PyTorch was refused


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_works(bare, command):
    done = bare("-m", "dpt_deploy", *([command] if command else []), "--help")
    assert done.code == 0, done.err
    assert "Usage: dpt-deploy" in done.out


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["export", "--backbone", "base", "--weights", "random"], "export"),
        (["convert", "--backbone", "base", "--weights", "random", "-o", "out"], "export"),
        (["bench"], "export"),
        (["demo"], "export"),
        (["run", "model.onnx", "photo.jpg"], "images"),
        (["batch", "model.onnx", "photos", "--ray", "local"], "images"),
        (["sign", "model.onnx", "--private-key", "key.pem"], "sign"),
    ],
    ids=["export", "convert", "bench", "demo", "run", "batch", "sign"],
)
def test_a_missing_extra_exits_3_and_names_the_line_that_installs_it(bare, arguments, extra):
    done = bare("-m", "dpt_deploy", *arguments)
    assert done.code == MissingExtraError.exit_code
    assert f"pip install -e '.[{extra}]'" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_bad_file_is_found_before_an_extra_is_missed(bare, command):
    done = bare("-m", "dpt_deploy", command, "model.onnx")
    assert done.code == BadFileError.exit_code
    assert "model.onnx does not exist" in done.err


def test_doctor_works_and_names_what_to_install(bare):
    done = bare("-m", "dpt_deploy", "doctor", "--json")
    assert done.code == 0, done.err
    remedies = " ".join(check["detail"] for check in json.loads(done.out)["checks"] if not check["fine"])
    assert all(f"'.[{extra}]'" in remedies for extra in set(EXTRA_OF.values()))


@pytest.mark.parametrize(("before", "expected"), [("", []), ("import onnx", ["onnx"])], ids=["help", "caught"])
def test_help_imports_nothing_heavy(python, before, expected):
    if before:
        pytest.importorskip("onnx", reason="the negative case imports onnx")
    done = python("-c", HEAVY_AFTER_HELP.format(before=before, heavy=set(EXTRA_OF)))
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].split()[1:] == expected
