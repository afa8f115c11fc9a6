"""A kit without contents: a fake product, fake wheels and a fake TensorRT-RTX, of a few bytes each.

The scripts of the kit are the real ones; the fake product they call records each call.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from support.paths import ROOT

KIT = "tools/gpu_kit"
VERSION = "9.9.9.9"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# Records each call in calls.log, makes the file that the call is about, and hangs or fails if a file in tell/ says so.
PRODUCT = """
import json, pathlib, sys, time
here = pathlib.Path("tell")
verb = sys.argv[1]
with open("calls.log", "a") as log:
    print(*sys.argv[1:4], file=log)
if (here / verb).exists():
    state = (here / verb).read_text()
    time.sleep(60) if state == "hang" else sys.exit(state)
if verb == "export":
    pathlib.Path(sys.argv[sys.argv.index("-o") + 1], "tiny-fp16.onnx").touch()
if verb == "bench":
    row = {"size": "384", "batch": 1, "contender": "ort", "p50_ms": 2.0, "interval_ms": [1.9, 2.1], "p99_ms": 3.0,
           "images_per_second": 500.0}
    document = {"model": "tiny-fp16", "weights": "tiny", "protocol": "none", "rows": [row], "contenders": {}}
    pathlib.Path(sys.argv[sys.argv.index("-o") + 1], "latency-x.json").write_text(json.dumps(document))
if "--json" in sys.argv:
    print(json.dumps({"verb": verb}))
"""
GPU_TEST = """
import pytest

@pytest.mark.skip(reason="no NVIDIA GPU: a fake")
def test_on_a_gpu():
    pass
"""


def wheel(folder: Path, name: str, files: dict[str, str], version: str = "1.0") -> Path:
    """Write a wheel that pip accepts."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def rtx_wheels(folder: Path, *, licence: str = "You may.") -> None:
    """Write the wheels of one version of TensorRT-RTX, whose module can be imported but does nothing."""
    text = {"LICENSE.txt": licence} if licence else {}
    wheel(folder, "tensorrt_rtx_cu13_libs", {"tensorrt_rtx_libs/__init__.py": "", **text}, VERSION)
    wheel(folder, "tensorrt_rtx_cu13_bindings", {"tensorrt_rtx_bindings/__init__.py": ""}, VERSION)
    wheel(folder, "tensorrt_rtx", {}, VERSION)
    wheel(folder, "tensorrt_rtx_cu13", {"tensorrt_rtx/__init__.py": f"__version__ = '{VERSION}'"}, VERSION)


def repository(folder: Path) -> Path:
    """Make a repository with the real kit; everything else in it is fake."""
    for name, text in {
        "dpt_deploy/__init__.py": "",
        "dpt_deploy/__main__.py": PRODUCT,
        "tests/gpu/test_engine.py": GPU_TEST,
        "tests/gpu/test_networks.py": GPU_TEST,
        "tests/support/x.py": "",
        "tests/golden/x.txt": "",
        "tests/conftest.py": "",
        "pyproject.toml": '[project]\nname = "dpt-deploy"\nversion = "0.0.1"\n',
        "constraints.txt": "fake==1.0\nonnxruntime==1.0\n",
        "LICENSE": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(ROOT / KIT, folder / KIT, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / KIT / "wheels.txt").write_text("# comment\nfake\nother==2.0  # pinned here\n")
    return folder


def damaged(path: Path) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
