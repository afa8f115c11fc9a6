"""A fake of compiled kernels: the same jobs, from the same structures, computed by the CPU in a stream's turn."""

import ctypes
import subprocess
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from support.fake_gpu import freed_at_the_end, runner_factory
from support.shared_folder import run_folder

from dpt_deploy.runtime.tensorrt import predictor as device_predictor

ROOT = Path(__file__).parents[2]
NAMES = {
    "InputJob": "InputJob",
    "MapJob": "MapJob",
    "ScoreJob": "ScoreJob",
    "LabelJob<std::int32_t>": "LabelJob32",
    "LabelJob<std::int64_t>": "LabelJob64",
    "FiniteJob": "FiniteJob",
}


@cache
def library():
    """The jobs compiled for this processor."""
    with run_folder("device-kernels") as folder:
        target = folder / "device_kernels.so"
        if not target.exists():
            source = Path(__file__).with_suffix(".cpp")
            include = ROOT / "dpt_deploy/data/cuda"
            rounding = "-ffp-contract=off"  # each product and sum rounded for itself
            options = ["-shared", "-fPIC", "-std=c++17", "-O2", rounding, f"-I{include}"]
            subprocess.run(["c++", *options, source, "-o", target], check=True)
    return ctypes.CDLL(str(target))


def bytes_of(name):
    return getattr(library(), f"bytes_of_{NAMES[name]}")()


class CpuKernels:
    """Takes the place of ``runtime.tensorrt.kernels.Kernels`` over the fake CUDA ``cuda``."""

    def __init__(self, cuda):
        self.cuda, self.launched = cuda, []

    def launch(self, name, job, stream):
        self.launched.append(name)
        given = bytes(job)  # the real launch copies its arguments too
        run = getattr(library(), f"run_{NAMES[name]}")
        self.cuda.queue(stream.handle, lambda: run(given))


@contextmanager
def fake_resizing(monkeypatch, folder):
    """A running engine over fakes, which also resizes: (runner, cuda, kernels)."""
    with freed_at_the_end():
        runner, cuda, _ = runner_factory(monkeypatch, folder)()
        kernels = CpuKernels(cuda)
        monkeypatch.setattr(device_predictor, "kernels_of", lambda _device: kernels)
        with runner:
            yield runner, cuda, kernels
