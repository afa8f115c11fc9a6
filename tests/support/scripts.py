"""Scripts of ``benchmarks/`` as modules, for tests of what they compute."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

from support.paths import ROOT


def load_script(name):
    """The module of ``benchmarks/NAME.py``, loaded by its path."""
    spec = spec_from_file_location(f"benchmark_script_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
