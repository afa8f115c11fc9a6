"""The table of differences agrees with the real bindings of four TensorRT releases; the code uses no other names."""

import ast
import json
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
from support.paths import ROOT

from dpt_deploy.core.errors import IncompatibleError, MissingExtraError, UsageError
from dpt_deploy.engine import compat
from dpt_deploy.engine.compat import FEATURES, Edition, has, load, parse_version

pytestmark = pytest.mark.fast

GOLDEN = json.loads((ROOT / "tests/golden/tensorrt_api.json").read_text())
RELEASES = GOLDEN["releases"]
RUNTIME = [*(ROOT / "dpt_deploy/runtime/tensorrt").glob("*.py")]
SOURCES = [*(ROOT / "dpt_deploy/engine").glob("*.py"), *RUNTIME]

# Names reached through objects, which no reading of the source can tie to a class.
METHODS = [
    "Builder.create_network",
    "Builder.create_builder_config",
    "Builder.create_optimization_profile",
    "Builder.build_serialized_network",
    "INetworkDefinition.num_layers",
    "INetworkDefinition.get_layer",
    "INetworkDefinition.num_inputs",
    "INetworkDefinition.num_outputs",
    "INetworkDefinition.get_input",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.set_flag",
    "IBuilderConfig.clear_flag",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.hardware_compatibility_level",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "IOptimizationProfile.set_shape",
    "ITimingCache.serialize",
    "BuilderFlag.VERSION_COMPATIBLE",
    "BuilderFlag.STRIP_PLAN",
    "BuilderFlag.REFIT",
    "BuilderFlag.TF32",
    "OnnxParser.parse_from_file",
    "OnnxParser.num_errors",
    "OnnxParser.get_error",
    "ParserError.desc",
    "ParserError.node_name",
    "ParserError.node_operator",
    "ILayer.type",
    "ILayer.metadata",
    "ILayer.name",
    "ILayer.num_inputs",
    "ILayer.num_outputs",
    "ILayer.get_input",
    "ILayer.get_output",
    "ITensor.name",
    "ITensor.dtype",
    "IProgressMonitor.phase_start",
    "IProgressMonitor.step_complete",
    "IProgressMonitor.phase_finish",
    "ILogger.log",
    "Runtime.deserialize_cuda_engine",
    "Runtime.engine_host_code_allowed",
    "EngineInspector.execution_context",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.get_tensor_dtype",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.device_memory_size_v2",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.create_engine_inspector",
    "EngineInspector.get_engine_information",
    "ICudaEngine.refittable",
    "ICudaEngine.create_serialization_config",
    "ICudaEngine.serialize_with_config",
    "ISerializationConfig.clear_flag",
    "ISerializationConfig.set_flag",
    "SerializationFlag.EXCLUDE_WEIGHTS",
    "Refitter.get_all_weights",
    "Refitter.get_missing_weights",
    "Refitter.refit_cuda_engine",
    "OnnxParserRefitter.refit_from_file",
    "OnnxParserRefitter.num_errors",
    "OnnxParserRefitter.get_error",
    "IExecutionContext.set_device_memory",
    "IExecutionContext.set_optimization_profile_async",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.profiler",
    "IExecutionContext.enqueue_emits_profile",  # left on
    "IProfiler.report_layer_time",
]
NEWER = {
    "IAttentionInputLayer.attention": (10, 14),
    "IAttention.decomposable": (10, 14),
    "SerializationFlag.INCLUDE_REFIT": (10, 14),
}


def there(name, release):
    """True if the bindings of a release have ``Class.name``, or a class."""
    kind, _, attribute = name.partition(".")
    if not attribute:
        return bool(GOLDEN["everywhere"].get(kind)) or any(
            entry.startswith(f"{kind}.") and release in having for entry, having in GOLDEN["somewhere"].items()
        )
    return attribute in GOLDEN["everywhere"].get(kind, []) or release in GOLDEN["somewhere"].get(name, [])


def chains(source):
    """``Class.NAME`` of every ``trt.Class.NAME`` and ``edition.module.Class.NAME`` in a source file."""
    found = set()
    for start in ast.walk(ast.parse(source)):
        node, parts = start, []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id == "trt":
            found.add(".".join(parts[:2]))
        elif holder := {"module", "trt"} & set(parts[:-1]):
            found.add(".".join(parts[parts.index(holder.pop()) + 1 :][:2]))
    return {name for name in found if name and not name.startswith("__")}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("feature", [name for name, entry in FEATURES.items() if entry.evidence])
def test_a_feature_is_where_the_table_says(feature, release):
    assert there(FEATURES[feature].evidence, release) == has(feature, "tensorrt", parse_version(release))


@pytest.mark.parametrize("release", RELEASES)
def test_every_name_that_is_used_is_in_every_release(release):
    used = set().union(*(chains(path.read_text()) for path in SOURCES)) | set(METHODS)
    version = parse_version(release)
    rtx_only = {"ComputeCapability", "ComputeCapability.__members__"}
    newer = {name for name in used if name.startswith("IAttentionInputLayer") or "ATTENTION" in name}
    expected = used - rtx_only - (newer if version < (10, 14) else set())
    assert {name for name in expected if not there(name, release)} == set()
    assert all(there(name, release) == (version >= since) for name, since in NEWER.items())


def test_a_name_that_is_nowhere_would_be_noticed():
    assert chains("trt.Builder(x); edition.module.BuilderFlag.FP99") >= {"Builder", "BuilderFlag.FP99"}
    assert not there("BuilderFlag.FP99", RELEASES[0])
    assert there("BuilderFlag.FP16", RELEASES[0])
    assert not there("BuilderFlag.FP16", RELEASES[-1])  # the reason why precision is in the graph


@pytest.mark.needs("tensorrt_rtx")
def test_the_real_rtx_bindings_have_every_name():
    trt = import_module("tensorrt_rtx")
    used = set().union(*(chains(path.read_text()) for path in SOURCES)) | set(METHODS) | set(NEWER)
    used |= {entry.evidence for entry in FEATURES.values() if entry.evidence and entry.rtx}
    for name in used:
        found = trt
        for part in name.split("."):
            assert hasattr(found, part), name
            found = getattr(found, part)
    assert has("fused attention", "tensorrt_rtx", parse_version(trt.__version__))


# --- choosing a library -----------------------------------------------------------------------------------------------


def fake(version):
    return SimpleNamespace(__version__=version)


def edition(library="tensorrt", version="10.14.1.48"):
    return Edition(fake(version), library, parse_version(version))


def installed(monkeypatch, **versions):
    """Pretend that exactly these libraries are installed."""
    monkeypatch.setattr(compat, "find_spec", lambda name: name if name in versions else None)
    for name in compat.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, fake(versions[name]) if name in versions else None)


def test_tensorrt_is_preferred_to_rtx(monkeypatch):
    installed(monkeypatch, tensorrt="11.4.0.106", tensorrt_rtx="1.7.1.116")
    assert str(load()) == "TensorRT 11.4.0.106"
    assert str(load("tensorrt_rtx")) == "TensorRT-RTX 1.7.1.116"


def test_rtx_stands_in(monkeypatch):
    installed(monkeypatch, tensorrt_rtx="1.7.1.116")
    assert load().is_rtx
    with pytest.raises(MissingExtraError, match="tensorrt") as caught:
        load("tensorrt")
    assert ".[trt]" in caught.value.hint


def test_neither_is_a_missing_extra(monkeypatch):
    installed(monkeypatch)
    with pytest.raises(MissingExtraError) as caught:
        load()
    assert ".[rtx]" in caught.value.hint


def test_an_old_one_is_refused(monkeypatch):
    installed(monkeypatch, tensorrt="10.11.0.33")
    with pytest.raises(IncompatibleError, match=r"TensorRT 10\.11\.0\.33 is too old"):
        load()


@pytest.mark.parametrize(
    ("option", "library", "fine"),
    [
        ("compute_capabilities", "tensorrt", False),
        ("compute_capabilities", "tensorrt_rtx", True),
        ("hardware_compatible", "tensorrt", True),
        ("hardware_compatible", "tensorrt_rtx", False),
        ("version_compatible", "tensorrt_rtx", False),
        ("timing_cache", "tensorrt_rtx", False),
        ("timing_cache", "tensorrt", True),
        ("level", "tensorrt_rtx", True),
    ],
)
def test_an_option_that_means_nothing_is_refused(option, library, fine):
    version = "10.14.1.48" if library == "tensorrt" else "1.7.1.116"
    if fine:
        edition(library, version).check_option(option)
        return
    with pytest.raises(UsageError) as caught:
        edition(library, version).check_option(option)
    assert f"--{option.replace('_', '-')}" in caught.value.hint
