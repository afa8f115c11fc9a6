"""Kernels of ``data/cuda``: compiled for the GPU on first use, and launched.

The C++ library compiles the same files with nvcc. Experimental: not yet run on a GPU. Tests without one check that the
kernels compile and that they round as the CPU does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from cuda.bindings import driver, nvrtc

from dpt_deploy.core.errors import DptError, MissingExtraError, ResourceError
from dpt_deploy.runtime.cuda.driver import Stream, call

JOBS = ("InputJob", "MapJob", "ScoreJob", "LabelJob<std::int32_t>", "LabelJob<std::int64_t>", "FiniteJob")
BLOCK = (32, 8)
_MOST_ROWS = 65535  # of blocks in a grid
_SOURCES = ("pixel.hpp", "each_pixel.hpp")
# Parts of the standard library that the sources use; NVRTC has none.
_STANDARD = {
    "cmath": "#define INFINITY __int_as_float(0x7f800000)\n",
    "cstddef": "namespace std { using ptrdiff_t = long long; using size_t = unsigned long long; }\n",
    "cstdint": "namespace std { using uint8_t = unsigned char; using uint16_t = unsigned short; using int32_t = int;"
    ' using int64_t = long long; static_assert(sizeof(int64_t) == 8 && sizeof(void*) == 8, "as ctypes"); }\n',
}
_OPTIONS = ("--std=c++17", "-fmad=false", "-prec-div=true")


class Kernels:
    """Compiled kernels for one device, loaded until the process ends.

    They belong to no context; a launch uses the context of its stream.
    """

    def __init__(self, device: int) -> None:
        properties = call("cudaGetDeviceProperties", device)
        code, names = compiled(f"sm_{properties.major}{properties.minor}")
        self._library = _driver("cuLibraryLoadData", code, [], [], 0, [], [], 0)
        self._kernels = {job: int(_driver("cuLibraryGetKernel", self._library, name)) for job, name in names.items()}

    def launch(self, name: str, job: ctypes.Structure, stream: Stream) -> None:
        """Queue ``job``, a structure with the layout of the job ``name`` that points to device memory."""
        grid = grid_of(job.height, job.width)
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(job))  # copied by the call
        where = ctypes.addressof(arguments)
        _driver("cuLaunchKernel", self._kernels[name], *grid, 1, *BLOCK, 1, 0, stream.handle, where, 0)


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Return the blocks across and down that cover (height, width).

    The number of rows is limited; beyond it, each block processes several rows.
    """
    return -(-width // BLOCK[0]), min(-(-height // BLOCK[1]), _MOST_ROWS)


@cache
def kernels_of(device: int) -> Kernels:
    """Return the kernels for a device; they are compiled once per process."""
    return Kernels(device)


def compiled(architecture: str) -> tuple[bytes, dict[str, bytes]]:
    """Compile for ``sm_90`` and the like (PTX for ``compute_90``); return the code and each job's kernel name in it.

    Raises:
        MissingExtraError: NVRTC is not installed.
        DptError: the compiler rejects the sources; its log is in the message.
    """
    headers = {**_STANDARD, **{name: _source(name) for name in _SOURCES}}
    bodies, names = ([text.encode() for text in part] for part in (headers.values(), headers))
    main = b'#include "each_pixel.hpp"\n'
    try:
        program = _nvrtc("nvrtcCreateProgram", main, b"kernels.cu", len(headers), bodies, names)
    except RuntimeError as exc:  # the library is opened by the first call
        raise MissingExtraError(
            "resizing on the GPU needs NVRTC, the compiler library of CUDA, which is not installed",
            hint="pip install nvidia-cuda-nvrtc (of CUDA 12: nvidia-cuda-nvrtc-cu12), or resize on the host",
        ) from exc
    try:
        expressions = {job: f"dpt::core::each_pixel<dpt::core::{job}>".encode() for job in JOBS}
        for expression in expressions.values():
            _nvrtc("nvrtcAddNameExpression", program, expression)
        _compile(program, [f"--gpu-architecture={architecture}", *_OPTIONS])
        lowered = {job: _nvrtc("nvrtcGetLoweredName", program, text) for job, text in expressions.items()}
        form = "PTX" if architecture.startswith("compute") else "CUBIN"
        code = bytearray(_nvrtc(f"nvrtcGet{form}Size", program))
        _nvrtc(f"nvrtcGet{form}", program, code)
        return bytes(code), lowered
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _source(name: str) -> str:
    return (files("dpt_deploy") / "data" / "cuda" / name).read_text(encoding="utf-8")


def _compile(program: Any, options: Sequence[str]) -> None:
    status = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])[0]
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytearray(_nvrtc("nvrtcGetProgramLogSize", program))
        _nvrtc("nvrtcGetProgramLog", program, log)
        text = bytes(log).rstrip(b"\0").decode(errors="replace").strip()
        raise DptError(
            f"NVRTC cannot compile the kernels: {text or status}", hint="resize on the host (device_imaging=False)"
        )


def _nvrtc(name: str, *arguments: Any) -> Any:
    status, *results = getattr(nvrtc, name)(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        text = nvrtc.nvrtcGetErrorString(status)[1].decode()
        raise DptError(f"{name}: {text}", hint="resize on the host (device_imaging=False)")
    return results[0] if results else None


def _driver(name: str, *arguments: Any) -> Any:
    status, *results = getattr(driver, name)(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        text = driver.cuGetErrorString(status)[1].decode()
        raise ResourceError(f"{name}: {text}", hint="see `dpt-deploy doctor` for GPU and driver")
    return results[0] if results else None
