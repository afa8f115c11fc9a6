"""C API of the C++ library (``cpp/include/dpt/dpt.h``) in ctypes; its statuses become this package's errors."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from ctypes.util import find_library
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import (
    BadFileError,
    DptError,
    IncompatibleError,
    MissingExtraError,
    ParityError,
    ResourceError,
    UsageError,
)

VARIABLE = "DPT_DEPLOY_LIBRARY"  # path of the library; preferred to the checkout's own build and the system's
_BUILT = Path(__file__).parents[3] / "build" / "cpp" / "libdpt.so"
_ERRORS: dict[int, type[DptError]] = {
    kind.exit_code: kind
    for kind in (UsageError, MissingExtraError, BadFileError, ParityError, IncompatibleError, ResourceError)
}


class Options(Structure):
    """``dpt_options``."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("backend", c_char_p),
        ("threads", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("skip_hashes", c_int32),
        ("host_imaging", c_int32),
    ]


class Info(Structure):
    """``dpt_info``."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("task", c_int32),
        ("metric", c_int32),
        ("num_classes", c_int32),
        ("stride", c_int32),
        ("png_scale", c_double),
        ("precision", c_char * 16),
        ("backend", c_char * 32),
        ("quantity", c_int32),
    ]


class Image(Structure):
    """``dpt_image``; the format 0 is RGB."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("height", c_int32),
        ("width", c_int32),
        ("row_bytes", c_int64),
        ("format", c_int32),
    ]


class NativeTiming(Structure):
    """``dpt_timing``, in seconds."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("prepare", c_double),
        ("model", c_double),
        ("finish", c_double),
    ]


class Tensor(Structure):
    """``dpt_tensor``."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("dtype", c_char_p),
        ("rank", c_int32),
        ("shape", c_int64 * 4),
    ]


_SIGNATURES: dict[str, list[Any]] = {
    "dpt_open": [c_char_p, POINTER(Options), POINTER(c_uint64)],
    "dpt_close": [c_uint64],
    "dpt_get_info": [c_uint64, POINTER(Info)],
    "dpt_network_size": [c_uint64, c_int32, c_int32, POINTER(c_int32), POINTER(c_int32)],
    "dpt_predict_depth": [c_uint64, POINTER(Image), c_void_p, c_size_t],
    "dpt_predict_labels": [c_uint64, POINTER(Image), c_void_p, c_size_t],
    "dpt_predict": [c_uint64, POINTER(Image)],
    "dpt_get_depth": [c_uint64, c_char_p, c_void_p, c_size_t],
    "dpt_get_map": [c_uint64, c_char_p, c_void_p, c_size_t],
    "dpt_set_focal": [c_uint64, c_double, c_double],
    "dpt_get_labels": [c_uint64, c_char_p, c_void_p, c_size_t],
    "dpt_get_output": [c_uint64, c_char_p, POINTER(Tensor)],
    "dpt_get_timing": [c_uint64, POINTER(NativeTiming)],
    "dpt_infer": [c_uint64, POINTER(Tensor), POINTER(Tensor)],
    "dpt_write_depth": [c_char_p, c_void_p, c_int32, c_int32, c_double],
    "dpt_write_labels": [c_char_p, c_void_p, c_int32, c_int32, c_int32],
}


class Library:
    """The loaded library; :meth:`call` turns a status into an error."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as exc:
            raise MissingExtraError(f"the C++ runtime {path} cannot be loaded: {exc}", hint="run `make cpp`") from exc
        for name in ("dpt_version", "dpt_backends", "dpt_last_error", "dpt_last_hint"):
            getattr(self._library, name).restype = c_char_p
        for name, types in _SIGNATURES.items():
            getattr(self._library, name).argtypes = types
        found, wanted = self.text("dpt_version"), version("dpt-deploy")
        if found != wanted:
            raise IncompatibleError(
                f"the C++ runtime {path} is of version {found}; this package is {wanted}", hint="run `make cpp`"
            )

    def text(self, name: str) -> str:
        """Return the text that a function without arguments returns."""
        found: bytes = getattr(self._library, name)()
        return found.decode("utf-8", "replace")

    def call(self, name: str, *arguments: object) -> None:
        """Call a function that returns a status; raises the error of that exit code unless it is 0."""
        status = getattr(self._library, name)(*arguments)
        if status:
            kind = _ERRORS.get(status, DptError)
            raise kind(self.text("dpt_last_error"), hint=self.text("dpt_last_hint"))


def find_native() -> str | None:
    """The C++ library: the one that ``DPT_DEPLOY_LIBRARY`` names, this checkout's build, or the system's name of it."""
    return os.environ.get(VARIABLE) or (str(_BUILT) if _BUILT.is_file() else find_library("dpt"))


def load_library() -> Library:
    """Load the C++ library that :func:`find_native` finds.

    Raises:
        MissingExtraError: there is none, or it cannot be loaded.
        IncompatibleError: it belongs to another version of this package.
    """
    path = find_native()
    if path is None:
        raise MissingExtraError(
            "runtime 'native' needs the C++ runtime, which is not built",
            hint=f"run `make cpp` in the checkout, or set {VARIABLE} to the path of libdpt.so",
        )
    return _loaded(path)


@cache
def _loaded(path: str) -> Library:
    return Library(path)
