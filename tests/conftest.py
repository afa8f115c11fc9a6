"""Setup of every test: the machine in the header, skips with their reason, fixed seeds.

``@pytest.mark.needs("gpu", "transformers")`` skips a test where one of them is missing, with the reason;
``--require gpu`` (repeatable) turns such a skip into a failure, for the machine that is there to run it.
``@pytest.mark.gpu`` is short for ``needs("gpu")``.
"""

import os
import random
import shutil
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from dpt_deploy.core.environment import cpu_count, fingerprint, gpus, installed
from dpt_deploy.core.optional import EXTRA_OF
from dpt_deploy.runtime.registry import RUNTIMES

# Third-party module to the extra that installs it; pycuda is used by one test only.
EXTRAS = {
    **EXTRA_OF,
    "pycuda": "pycuda",
    "cyclonedx": "dev",
    **{name: each.extra for each in RUNTIMES.values() for name in each.modules},
}
HEADER = ("torch", "timm", "onnx", "onnxruntime", "opencv-python-headless", "transformers", "numpy")

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # before torch is imported: its threads are counted then
    _share = max(1, cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(_share))


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import onnxruntime themselves


def _no_gpu() -> str:
    return "" if gpus() else "no NVIDIA GPU: nvidia-smi is not there or finds none"


def _no_git() -> str:
    return "" if shutil.which("git") else "git is not installed"


def _no_compiler() -> str:
    if not shutil.which("c++"):
        return "no C++ compiler: install g++, or let DPT_APT=1 do so"
    return "" if shutil.which("cmake") or find_spec("cmake") else "no cmake: pip install --group dev"


def _no_optimum() -> str:
    return "" if find_spec("optimum") else "the module optimum is not installed: nox -s optimum installs it"


def _no_module(name: str) -> str:
    return "" if find_spec(name) else f"the module {name} is not installed: pip install -e '.[{EXTRAS[name]}]'"


@cache
def missing(need: str) -> str:
    """Why ``need`` is not there; empty when it is."""
    special = {"gpu": _no_gpu, "git": _no_git, "compiler": _no_compiler, "optimum": _no_optimum}
    if need not in special and need not in EXTRAS:
        raise pytest.UsageError(f"unknown need {need!r}; known: {', '.join(sorted({*special, *EXTRAS}))}")
    return special[need]() if need in special else _no_module(need)


def pytest_addoption(parser):
    parser.addoption(
        "--require",
        action="append",
        default=[],
        metavar="NEED",
        help="fail, instead of skip, where this is missing (gpu, git, compiler, or a module); repeatable",
    )


def pytest_configure(config):
    for need in config.getoption("--require"):
        missing(need)  # a misspelt name is an error, not a requirement that nothing meets


def pytest_ignore_collect(collection_path, config):
    """``-m fast`` reads only files with such tests: others may import what a base install lacks."""
    if config.option.markexpr == "fast" and collection_path.match("test_*.py"):
        return "pytest.mark.fast" not in collection_path.read_text() or None
    return None


def pytest_report_header(config):
    found = fingerprint()
    versions = ", ".join(f"{name} {installed(name) or 'absent'}" for name in HEADER)
    return [versions, f"{found['processor']}, {found['cores']} cores, GPU: {'; '.join(found['gpus']) or 'none'}"]


def pytest_runtest_setup(item):
    needs = [need for marker in item.iter_markers("needs") for need in marker.args]
    needs += ["gpu"] if item.get_closest_marker("gpu") else []
    required = item.config.getoption("--require")
    for need in needs:
        if reason := missing(need):
            if need in required:
                pytest.fail(f"--require {need}: {reason}", pytrace=False)
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_chance():
    """Nothing is random without a seed, not even what forgot to take one."""
    random.seed(0)
    np.random.seed(0)  # the legacy generator is the one that is used without a seed
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing is written into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPT_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_scenes():
    """Ranges are measured on few and small scenes: tests ask what is made of them, not how good they are.

    The numbers are constants, not options: an export has one calibration set, so that its ranges can be repeated. Many
    tests export through the command line, which has no way to pass a number.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpt_deploy.scenes.seeds.CALIBRATION_SCENES", 4)
        patch.setattr("dpt_deploy.scenes.seeds.CALIBRATION_SIDE", 128)
        yield


@pytest.fixture(autouse=True)
def _rendered_once(request):
    """Small scenes are rendered once, in all tests but those of rendering itself."""
    if "dpt_deploy.scenes.render" not in sys.modules or "tests/scenes" in request.node.nodeid:
        yield
        return
    with import_module("support.scenes_kept").scenes_kept():
        yield


@pytest.fixture(autouse=True)
def _traced_once(request):
    """Exports of one network share their trace, in all tests but those that change what traces it."""
    if "dpt_deploy.jobs.export.export" not in sys.modules or request.node.get_closest_marker("own_trace"):
        yield
        return
    with import_module("support.traces").traces_kept():
        yield
