"""The table of runtimes: complete records, known names, and defaults by kind of artefact."""

import re
import tomllib
from importlib.util import find_spec

import pytest
from support.paths import ROOT

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.core.errors import MissingExtraError, UsageError
from dpt_deploy.jobs.common.runners import PARTS
from dpt_deploy.runtime.registry import REFERENCE, RUNTIMES, Runtime, find_runtime, runtimes_of

pytestmark = pytest.mark.fast
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_a_record_names_modules_parts_and_extras_that_exist(runtime):
    targets = [runtime.runner, runtime.device_predictor, PARTS[runtime.part] if runtime.part else ""]
    for target in filter(None, targets):
        path = ROOT / (target.partition(":")[0].replace(".", "/") + ".py")
        assert path.is_file()
        assert re.search(rf"^(class|def) {target.partition(':')[2]}\b", path.read_text(), re.MULTILINE)
    assert runtime.extra in EXTRAS
    assert runtime.runs
    assert set(runtime.runs) <= {ONNX, PLAN, REFERENCE}


@pytest.mark.parametrize("look", ["colour", "label", "help"])
def test_runtimes_that_are_plotted_differ(look):
    timed = [getattr(runtime, look) for runtime in RUNTIMES.values() if runtime.timed]
    assert len(set(timed)) == len(timed)


def test_an_unknown_runtime_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="unknown runtime 'cuda'") as caught:
        find_runtime("cuda")
    assert caught.value.hint == (
        "known: ort, openvino, openvino-bf16, emu, trt, native, torch, grpc://HOST:PORT/MODEL, http://HOST:PORT/MODEL"
    )


def test_a_server_is_named_by_an_address():
    assert find_runtime("grpc://localhost:8001/x").name == "grpc"
    for name in ("grpc", "http", "ort://x", "ftp://x/y"):
        with pytest.raises(UsageError, match="unknown runtime"):
            find_runtime(name)


def test_the_first_runtime_of_a_kind_is_its_default():
    assert [runtime.name for runtime in runtimes_of(ONNX)] == [
        *("ort", "openvino", "openvino-bf16", "emu", "native", "grpc", "http")
    ]
    assert [runtime.name for runtime in runtimes_of(PLAN)] == ["trt", "native", "grpc", "http"]
    assert [runtime.name for runtime in runtimes_of(REFERENCE)] == ["torch"]


def test_a_record_without_precisions_computes_all():
    assert find_runtime("emu").computes("fp8")
    assert find_runtime("torch").computes("fp32")
    assert not find_runtime("torch").computes("fp16")


def test_a_runtime_is_installed_if_all_its_modules_are():
    made = {"runner": "json:loads", "runs": (ONNX,), "label": "x", "help": "x"}
    assert Runtime("x", modules=("json", "numpy"), **made).installed
    assert not Runtime("x", modules=("json", "unheard_of"), **made).installed


def test_a_missing_module_names_the_extra_of_the_record(tmp_path, monkeypatch):
    assert find_spec("unheard_of") is None
    (tmp_path / "new_runtime.py").write_text("import unheard_of")
    monkeypatch.syspath_prepend(tmp_path)
    record = Runtime("new", "new_runtime:Runner", runs=(ONNX,), label="new", help="new", extra="new")
    with pytest.raises(MissingExtraError, match="runtime 'new' needs the module 'unheard_of'") as caught:
        record.load()
    assert caught.value.hint.endswith("pip install -e '.[new]'")
