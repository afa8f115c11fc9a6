"""Arrays of the fake's device, whose memory is this process's: what others show of theirs, and a copy of ours."""

import ctypes

import numpy as np


class OnDevice:
    """The interface that torch and CuPy arrays show; the fake device's memory is this process's."""

    def __init__(self, values, **changes):
        self.values, self.changes = values, changes

    @property
    def __cuda_array_interface__(self):
        return {**self.values.__array_interface__, "strides": None, **self.changes}


def on_host(array):
    """A copy of an array of the fake's device, whose memory is this process's."""
    array._stream.synchronize()
    count = int(np.prod(array.shape)) * array.dtype.itemsize
    held = (ctypes.c_byte * count).from_address(array.address)
    return np.frombuffer(held, array.dtype).reshape(array.shape).copy()
