"""Write ``tests/golden/tensorrt_api.json``: which names the real Python bindings of TensorRT have, release by release.

``python tests/support/make_tensorrt_golden.py`` (needs pip, an index with the binding wheels, and a C compiler). The
bindings are loaded over empty fakes of TensorRT's own libraries, which are not in the wheels: enough to look at
classes, not to call anything.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorrt_api.json"
RELEASES = {
    "10.12.0.36": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",
    "10.14.1.48.post1": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
CLASSES = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "IAttention",
    "IAttentionInputLayer",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "IProgressMonitor",
    "ISerializationConfig",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "ProfilingVerbosity",
    "Refitter",
    "Runtime",
    "SerializationFlag",
    "TensorIOMode",
    "ComputeCapability",
]

LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
ENTRIES = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
]


def names_of(module):
    """Class to its public names, of those classes that the module has."""
    found = {name: getattr(module, name) for name in CLASSES if hasattr(module, name)}
    return {name: sorted(entry for entry in dir(kind) if not entry.startswith("_")) for name, kind in found.items()}


def ask(version, package, folder):
    """The names of one release, reported by a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"{package}=={version}"], check=True
    )
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRIES))
    for name in LIBRARIES:
        library = f"lib{name}.so.{version.partition('.')[0]}"
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", source, "-o", folder / library], check=True)
    script = (
        "import json, tensorrt_bindings, make_tensorrt_golden as m; print(json.dumps(m.names_of(tensorrt_bindings)))"
    )
    path = os.pathsep.join([str(folder), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main():
    found = {}
    for version, package in RELEASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[version] = ask(version, package, Path(folder))
    everywhere, somewhere = {}, {}
    for kind in CLASSES:
        having = {version: set(names.get(kind, [])) for version, names in found.items()}
        common = set.intersection(*having.values())
        everywhere[kind] = sorted(common)
        somewhere |= {
            f"{kind}.{name}": [version for version, names in having.items() if name in names]
            for name in sorted(set.union(*having.values()) - common)
        }
    golden = {"releases": list(RELEASES), "everywhere": everywhere, "somewhere": somewhere}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
