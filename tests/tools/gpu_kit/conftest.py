"""The modules of the kit, and a kit packed from fake wheels."""

import importlib
import sys

import pytest
from support import kit as fake
from support.paths import ROOT


@pytest.fixture(scope="module")
def modules():
    """The modules of the kit, which import each other by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools/gpu_kit")
        yield {name: importlib.import_module(name) for name in ("archives", "pack", "models", "steps", "work")}
        for name in ("archives", "pack", "models", "steps", "work", "report"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def options(modules, tmp_path_factory):
    """Options that pack fake wheels, without an index."""
    folder = tmp_path_factory.mktemp("options")
    wheels = folder / "wheels"
    wheels.mkdir()
    fake.wheel(wheels, "fake", {"fake.py": "x = 1\n"})
    fake.wheel(wheels, "other", {"other.py": ""}, "2.0")
    fake.rtx_wheels(wheels)
    root = fake.repository(folder / "repository")
    return modules["pack"].PackOptions(
        folder / "kit",
        python=fake.PYTHON,
        rtx=(fake.VERSION,),
        wheels=wheels,
        root=root,
        requirements=root / "tools/gpu_kit/wheels.txt",
        preset=0,
    )


@pytest.fixture(scope="module")
def packed(modules, options):
    modules["pack"].pack(options, say=lambda _line: None)
    return options.out
