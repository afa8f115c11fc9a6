"""Scripts of ``benchmarks/`` as modules, for tests of what they compute."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

from support.paths import ROOT

from dpt_deploy.cli import call


def load_script(name):
    """The module of ``benchmarks/NAME.py``, loaded by its path."""
    spec = spec_from_file_location(f"benchmark_script_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def without_processes(script):
    """Takes the place of ``script.subprocess``: commands of dpt-deploy and steps of the script run in this process."""

    def run(command, **_options):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = call(command[3:]) if command[1:3] == ["-m", "dpt_deploy"] else _step(script, command)
        return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    return SimpleNamespace(run=run)


def _step(script, command):
    step, model, side = command[2:]
    print(json.dumps(getattr(script, step.removeprefix("--"))(str(model), int(side))))
    return 0
