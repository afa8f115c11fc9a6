"""Facts about this machine: versions, processor, GPU. Found without importing anything heavy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

# Modules of TensorRT and their names, in order of preference. A distribution has the name of its module, with hyphens.
LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
# Requirements that print, draw or read data sets, and so change no number.
_NOT_RECORDED = {"click", "rich", "matplotlib", "h5py", "cuda-core", "pycuda", "ray", "polygraphy"}


def installed(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def tool_versions() -> dict[str, str]:
    """Return the versions of Python, of this program, and of each requirement that is installed and may change numbers.

    Requirements are those of ``pyproject.toml``, extras included.
    """
    found = {name: version for name in _recorded_packages() if (version := installed(name))}
    return {"python": platform.python_version(), **found}


@cache
def _recorded_packages() -> tuple[str, ...]:
    try:
        listed = metadata.requires("dpt-deploy") or []
    except metadata.PackageNotFoundError:
        return ()
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in listed]
    return tuple(dict.fromkeys(["dpt-deploy", *(name for name in names if name not in _NOT_RECORDED)]))


def processor() -> str:
    """Return the processor's model name as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes that are available without swapping; None if the system does not report them."""
    meminfo = Path("/proc/meminfo")
    text = meminfo.read_text() if meminfo.is_file() else ""
    line = next((line for line in text.splitlines() if line.startswith("MemAvailable:")), "")
    return int(line.split()[1]) * 1024 if line else None


def cpu_flags() -> list[str]:
    """Return the vector extensions of the processor that matter to inference."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return [flag for flag in wanted if flag in flags]


# Units of x86 processors for 8-bit products, by their flag.
INT8_UNITS = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "amx_int8": "AMX"}


def sums_8_bits_in_16(flags: Collection[str] | None = None) -> bool:
    """Return True for an x86 processor that adds 8-bit products in 16 bits: it has AVX2, and no unit for them.

    ``flags`` are those of a recorded machine (default: of this one).
    """
    flags = cpu_flags() if flags is None else flags
    return "avx2" in flags and not any(flag in INT8_UNITS for flag in flags)


def gpus() -> list[str]:
    """Return name, driver and memory of each NVIDIA GPU as the driver's tool reports them; empty without a GPU."""
    return _ask_driver("name,driver_version,memory.total")


def gpu_devices() -> list[Gpu]:
    """Return the NVIDIA GPUs in the driver's order; empty without a GPU."""
    rows = [line.split(", ") for line in _ask_driver("name,compute_cap,driver_version,memory.total", units=False)]
    return [Gpu(row[0], row[1], row[2], int(row[3]) << 20) for row in rows if len(row) == 4 and row[3].isdecimal()]


def free_device_memory() -> int | None:
    """Return the free bytes of the first NVIDIA GPU; None without a GPU."""
    found = _ask_driver("memory.free", units=False)
    return int(found[0]) << 20 if found and found[0].isdecimal() else None


def clocks() -> dict[str, object]:
    """Return the current clocks and load of the machine.

    ``cpu_mhz`` is the lowest and highest clock of the processors that this process may use; None if the system does not
    report it (a virtual machine may report a nominal one). ``gpus`` has clocks of multiprocessors and memory,
    temperature and power of each NVIDIA GPU. ``load_average`` is that of the last 1, 5 and 15 minutes.
    """
    found = _cpu_mhz()
    return {
        "cpu_mhz": [min(found), max(found)] if found else None,
        "gpus": _ask_driver("clocks.sm,clocks.mem,temperature.gpu,power.draw"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _cpu_mhz() -> list[float]:
    """Return the clock of each processor that this process may use: from frequency scaling, else from /proc/cpuinfo."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    scaled = [Path(f"/sys/devices/system/cpu/cpu{index}/cpufreq/scaling_cur_freq") for index in sorted(own)]
    with suppress(OSError, ValueError):
        return [int(path.read_text()) / 1e3 for path in scaled]
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    listed = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return [mhz for index, mhz in enumerate(listed) if index in own]


def _ask_driver(columns: str, *, units: bool = True) -> list[str]:
    """Return one line per GPU from nvidia-smi; empty without a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={columns}", f"--format=csv,noheader{'' if units else ',nounits'}"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  fixed arguments
    except (OSError, subprocess.TimeoutExpired):  # a driver that is broken or hangs counts as no GPU
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def fingerprint() -> dict[str, object]:
    """Return the facts about this machine that a measurement depends on: versions, processor, cores, GPU."""
    return {
        "tools": tool_versions(),
        "processor": processor(),
        "cores": cpu_count(),
        "cpu_flags": cpu_flags(),
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver reports it; ``capability`` is its compute capability, for example ``9.0``."""

    name: str
    capability: str
    driver: str
    memory_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability}, driver {self.driver})"
