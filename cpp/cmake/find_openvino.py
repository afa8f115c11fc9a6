"""Print where the Python wheel of OpenVINO keeps its C headers and library, and its version; nothing without it."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

spec = find_spec("openvino")
folder = Path(spec.origin).parent if spec and spec.origin else None
found = sorted(folder.glob("libs/libopenvino_c.so*")) if folder else []
if found and (folder / "include/openvino/c/openvino.h").is_file():
    print(folder / "include", found[-1], version("openvino"), sep=";")
