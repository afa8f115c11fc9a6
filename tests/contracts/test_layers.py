"""The architecture holds, and the machine that checks it notices when it does not."""

import shutil
import sys
from pathlib import Path

import pytest

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
pytest.importorskip("importlinter", reason="import-linter is not installed: pip install --group dev")

OFFENCES = {
    "a room imports its neighbour": ("model/initial.py", "import dpt_deploy.graph.lint"),
    "… inside a function": ("graph/lint.py", "def f():\n    from dpt_deploy.runtime import registry"),
    "… for its types only": (
        "measure/timing.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dpt_deploy.artifact import store",
    ),
    "core imports a job": ("core/size.py", "import dpt_deploy.jobs.verify.compare"),
    "core needs PyTorch": ("core/size.py", "import torch"),
    "measure needs ONNX Runtime": ("measure/metrics.py", "import onnxruntime"),
    "a job imports a page": ("jobs/bench/bench.py", "import dpt_deploy.report.html"),
    "a job imports a later one": ("jobs/verify/compare.py", "def f():\n    import dpt_deploy.jobs.export.request"),
    "two modules of a room in a circle": ("jobs/verify/result.py", "import dpt_deploy.jobs.verify.verify"),
    "the command line passes the jobs by": ("cli/run.py", "import dpt_deploy.runtime.registry"),
    "a room nobody declared": ("serving/__init__.py", ""),
    "a job nobody declared": ("jobs/serving/__init__.py", ""),
}


@pytest.fixture
def contract(root, python, tmp_path):
    """Run the contract of setup.cfg on a copy of the package, after ``offence`` was put into it."""

    def check(where="", offence=""):
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(root / "dpt_deploy", tmp_path / "dpt_deploy", ignore=ignored)
        (tmp_path / "dpt_deploy" / "data").mkdir()
        shutil.copy(root / "setup.cfg", tmp_path)
        if where:
            path = tmp_path / "dpt_deploy" / where
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as stream:
                stream.write(f"\n{offence}\n")
        return python(LINT_IMPORTS, "--no-cache", cwd=tmp_path)

    return check


def test_the_layers_hold(contract):
    found = contract()
    assert found.code == 0, found.out
    assert "0 broken" in found.out


@pytest.mark.parametrize(("where", "offence"), OFFENCES.values(), ids=OFFENCES)
def test_an_offence_is_found(contract, where, offence):
    found = contract(where, offence)
    module = Path(where).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
    assert found.code == 1
    assert "0 broken" not in found.out
    sibling = f".{module.rpartition('.')[2]} "  # a circle names the modules of its room, in any order
    assert module in found.text or f"- {sibling}-> " in found.text or f" -> {sibling}(1 import)" in found.text
