"""Does an array lie on a GPU? Asked of the array alone, without importing anything of CUDA."""

from __future__ import annotations

CUDA_DEVICE = 2  # kDLCUDA, as DLPack numbers kinds of devices


def on_device(value: object) -> bool:
    """Whether an array says that it lies on an NVIDIA device."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and where()[0] == CUDA_DEVICE
