"""A missing or broken optional dependency becomes the line that installs it; our own defects stay loud."""

import sys
import tomllib
from importlib import import_module

import pytest
from support.paths import ROOT

from dpt_deploy.core.errors import MissingExtraError
from dpt_deploy.core.optional import EXTRA_OF, extra

pytestmark = pytest.mark.fast


def importing(module):
    with extra("ort", purpose="running it"):
        import_module(module)


@pytest.mark.parametrize(("module", "which"), [*EXTRA_OF.items(), ("unheard_of", "ort"), ("unheard_of.part", "ort")])
def test_a_missing_module_becomes_its_pip_line(module, which, monkeypatch):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(MissingExtraError, match=f"running it needs the module '{module.partition('.')[0]}'") as caught:
        importing(module)
    assert caught.value.hint == f"install it from the checkout: pip install -e '.[{which}]'"
    assert caught.value.exit_code == 3


def test_every_named_extra_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRA_OF.values()) <= set(extras)


def test_what_is_installed_passes():
    importing("json")


@pytest.mark.parametrize(
    "line",
    [
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "from json import unheard_of",
    ],
    ids=["library", "build", "version"],
)
def test_a_broken_module_is_reported_with_its_reason(line, tmp_path, monkeypatch):
    (tmp_path / "brokenmodule.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="cannot be imported: ") as caught:
        importing("brokenmodule")
    assert "doctor" in caught.value.hint
    sys.modules.pop("brokenmodule", None)


@pytest.mark.parametrize(
    "line",
    [
        "raise KeyboardInterrupt",
        # As pybind11 does it, with which ONNX Runtime's compiled module is written.
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as exc:\n    raise ImportError('failed') from exc",
    ],
    ids=["in Python", "in a compiled module"],
)
def test_an_interruption_of_an_import_is_no_broken_module(line, tmp_path, monkeypatch):
    (tmp_path / "slowmodule.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        importing("slowmodule")
    sys.modules.pop("slowmodule", None)


@pytest.mark.parametrize("line", ["import dpt_deploy.unheard_of", "from dpt_deploy.core import unheard_of"])
def test_what_is_missing_inside_this_package_stays_loud(line):
    with pytest.raises(ImportError), extra("ort", purpose="running it"):
        exec(line)
