"""The gate in front of optional dependencies: a missing module becomes the line that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dpt_deploy.core.errors import MissingExtraError

# Which extra of pyproject.toml brings which top-level module.
EXTRA_OF = {
    "torch": "export",
    "torchvision": "export",
    "timm": "export",
    "safetensors": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxruntime": "ort",
    "cv2": "images",
    "PIL": "images",
    "matplotlib": "study",
    "h5py": "study",
    "transformers": "oracle",
    "tensorrt": "trt",
    "tensorrt_rtx": "rtx",
    "cuda": "trt",
    "pycuda": "pycuda",
}


@contextmanager
def extra(name: str, *, purpose: str) -> Iterator[None]:
    """Turn a missing third-party module inside the block into a :class:`MissingExtraError`.

    So is one that is there and cannot be imported (too old, built for another torch, a library of the system missing);
    what is missing inside this package is a defect and stays loud.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        module = (exc.name or "").partition(".")[0]
        if module == "dpt_deploy":
            raise
        which = EXTRA_OF.get(module, name)
        raise MissingExtraError(
            f"{purpose} needs the module {module!r}, which is not installed",
            hint=f"install it from the checkout: pip install -e '.[{which}]'",
        ) from exc
    except (ImportError, OSError, RuntimeError) as exc:
        if (getattr(exc, "name", None) or "").partition(".")[0] == "dpt_deploy":
            raise
        raise MissingExtraError(
            f"{purpose} needs modules that are installed but cannot be imported: {exc}",
            hint=f"see `dpt-deploy doctor`, then install matching builds: pip install -e '.[{name}]'",
        ) from exc
