"""Print where the Python wheel of ONNX Runtime keeps its library; nothing where there is none."""

from importlib.util import find_spec
from pathlib import Path

spec = find_spec("onnxruntime")
found = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*")) if spec and spec.origin else []
print(found[-1] if found else "")
