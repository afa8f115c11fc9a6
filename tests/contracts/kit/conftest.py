"""The kit's own modules, and a kit packed of stand-ins."""

import importlib
import sys

import pytest
from support import kit as stand_in


@pytest.fixture(scope="module")
def modules(root):
    """The kit's own modules, which find each other beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "kit")
        yield {name: importlib.import_module(name) for name in ("parts", "pack", "models", "steps", "work")}
        for name in ("parts", "pack", "models", "steps", "work", "report"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def order(modules, tmp_path_factory):
    """What is packed, of stand-in wheels, without an index."""
    folder = tmp_path_factory.mktemp("order")
    wheels = folder / "wheels"
    wheels.mkdir()
    stand_in.wheel(wheels, "stand_in", {"stand_in.py": "x = 1\n"})
    stand_in.wheel(wheels, "other", {"other.py": ""}, "2.0")
    stand_in.rtx_wheels(wheels)
    root = stand_in.repository(folder / "repository")
    return modules["pack"].Order(
        folder / "kit",
        python=stand_in.PYTHON,
        rtx=(stand_in.VERSION,),
        wheels=wheels,
        root=root,
        requirements=root / "kit/wheels.txt",
        preset=0,
    )


@pytest.fixture(scope="module")
def packed(modules, order):
    modules["pack"].pack(order, say=lambda _line: None)
    return order.out
