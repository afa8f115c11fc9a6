"""Gate in front of optional dependencies: a missing module becomes the command that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from dpt_deploy.core.errors import MissingExtraError

# Top-level module to the extra of pyproject.toml that installs it. A module that is not listed belongs to the extra
# that the caller of `extra` names.
EXTRA_OF = {
    "torch": "export",
    "torchvision": "export",
    "timm": "export",
    "safetensors": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxruntime": "ort",
    "openvino": "openvino",
    "cv2": "images",
    "PIL": "images",
    "isal": "images",
    "matplotlib": "study",
    "h5py": "study",
    "transformers": "oracle",
    "model_signing": "sign",
    "ray": "ray",
    "pyarrow": "ray",
    "fsspec": "ray",
    "tensorrt": "trt",
    "tensorrt_rtx": "rtx",
    "cuda": "trt",
    "tritonclient": "serve",
    "rosbags": "ros",
    "polygraphy": "polygraphy",
}


@contextmanager
def extra(name: str, *, purpose: str) -> Iterator[None]:
    """Turn a missing third-party module inside the block into a :class:`MissingExtraError`.

    The same goes for a module that is installed but cannot be imported: too old, built for another torch, or without a
    system library it needs. A module missing inside this package is a defect and raises as usual. So does Ctrl-C, which
    a compiled module turns into an ImportError if it comes while the module is loaded.
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
        if (interruption := _interruption(exc)) is not None:
            raise interruption from exc
        raise MissingExtraError(
            f"{purpose} needs modules that are installed but cannot be imported: {exc}",
            hint=f"see `dpt-deploy doctor`, then install matching builds: pip install -e '.[{name}]'",
        ) from exc


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interruption that ``error`` was raised from; None if there was none."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def load_attribute(target: str, *, which: str, purpose: str) -> Any:
    """Import ``target``, written ``module:attribute``; ``which`` is the extra that its module needs.

    Raises:
        MissingExtraError: a third-party module that it imports is missing or cannot be imported.
    """
    module, _, attribute = target.partition(":")
    with extra(which, purpose=purpose):
        return getattr(import_module(module), attribute)
