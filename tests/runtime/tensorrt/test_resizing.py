"""Resizing on a GPU: the kernels' source is compiled for one, and computed by the CPU with fakes of CUDA."""

import ctypes
import json
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support.device_arrays import on_host
from support.device_kernels import NAMES, bytes_of, fake_resizing
from support.make_imaging_golden import GOLDEN

from dpt_deploy.core.errors import DptError, MissingExtraError, ResourceError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging import resample
from dpt_deploy.runtime.tensorrt import kernels as _kernels
from dpt_deploy.runtime.tensorrt import resizing as _device_imaging
from dpt_deploy.runtime.tensorrt.resizing import DeviceImaging

CASES = json.loads((GOLDEN / "imaging.json").read_text())["cases"]


def cases_of(*functions):
    found = [case for case in CASES if case["function"] in functions]
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "imaging.npz") as stored:
        return dict(stored)


@pytest.fixture
def stood_in(monkeypatch, tmp_path):
    with fake_resizing(monkeypatch, tmp_path) as found:
        yield found


@pytest.fixture
def there(stood_in):
    """(imaging, a function that puts an array there)."""
    runner, _, kernels = stood_in
    resizing = DeviceImaging(runner._opened().stream, kernels)
    yield resizing, runner.to_device
    resizing.close()


def resized(resizing, finish, given, size, dtype):
    target = resizing.new((size.height, size.width), np.dtype(dtype))
    finish(given, size, target.address)
    return on_host(target)


# --- the kernels ------------------------------------------------------------------------------------------------------


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("name", NAMES)
def test_structures_are_laid_out_as_the_kernels_read_them(name):
    ours = getattr(_device_imaging, name.partition("<")[0])
    assert ctypes.sizeof(ours) == bytes_of(name)


@pytest.fixture(scope="module")
def nvrtc():
    try:
        return _kernels.compiled("compute_80")[0].decode("ascii", "replace")
    except MissingExtraError as exc:
        pytest.skip(str(exc))


def arithmetic(ptx):
    return set(re.findall(r"\b(\w+\.[a-z.]*f(?:32|64))\b", ptx))


def fuses(ptx):
    return [name for name in arithmetic(ptx) if name.startswith(("fma", "mad", "rcp")) or "approx" in name]


def test_the_kernels_round_each_product_and_sum_for_itself(nvrtc):
    assert {"mul.rn.f64", "add.rn.f64", "div.rn.f64", "mul.rn.f32", "add.rn.f32"} <= arithmetic(nvrtc)
    assert not fuses(nvrtc)


def test_a_fused_product_would_be_noticed(nvrtc, monkeypatch):
    monkeypatch.setattr(_kernels, "_OPTIONS", ("--std=c++17",))
    fused = _kernels._source("pixel.hpp").replace("return __fmul_rn(a, b)", "return a * b")
    fused = fused.replace("return __fadd_rn(a, b)", "return a + b")
    each = _kernels._source("each_pixel.hpp")
    monkeypatch.setattr(_kernels, "_source", {"pixel.hpp": fused, "each_pixel.hpp": each}.get)
    assert fuses(_kernels.compiled("compute_80")[0].decode("ascii", "replace"))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_there_is_machine_code_for_every_job(nvrtc, architecture):
    code, names = _kernels.compiled(architecture)
    assert code.startswith(b"\x7fELF")
    assert set(names) == set(NAMES)
    assert all(name in code for name in names.values())


def test_a_source_that_does_not_compile_is_reported_in_the_compilers_words(nvrtc, monkeypatch):
    monkeypatch.setattr(_kernels, "_source", lambda _name: "nonsense")
    with pytest.raises(DptError, match=r"NVRTC cannot compile the kernels: (?s:.)*nonsense"):
        _kernels.compiled("sm_90")


def test_a_machine_without_the_compiler_names_what_to_install(monkeypatch):
    def absent(_name, *_arguments):
        raise RuntimeError("libnvrtc.so.13 is nowhere")

    monkeypatch.setattr(_kernels, "_nvrtc", absent)
    with pytest.raises(MissingExtraError, match="needs NVRTC") as caught:
        _kernels.compiled("sm_90")
    assert "pip install nvidia-cuda-nvrtc" in caught.value.hint


class FakeDriver:
    """The functions of ``cuda.bindings.driver`` that load and launch; what was launched, with its grid and job."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)

    def __init__(self, failing=""):
        self.failing, self.launched, self.names = failing, [], []

    def cuGetErrorString(self, _status):
        return 0, b"invalid context"

    def cuLibraryLoadData(self, code, *_options):
        assert code.startswith(b"\x7fELF")
        return int(self.failing == "load"), "library"

    def cuLibraryGetKernel(self, _library, name):
        self.names.append(name)
        return 0, len(self.names) - 1

    def cuLaunchKernel(self, function, across, down, deep, x, y, z, shared, stream, arguments, extra):
        assert (deep, x, y, z, shared, extra) == (1, 32, 8, 1, 0, 0)
        (address,) = (ctypes.c_void_p * 1).from_address(arguments)
        job = _device_imaging.FiniteJob.from_address(address)
        self.launched.append((function, across, down, stream, job.height, job.width))
        return (int(self.failing == "launch"),)


@pytest.fixture
def driven(nvrtc, monkeypatch):
    def made(**options):
        driver = FakeDriver(**options)
        monkeypatch.setattr(_kernels, "driver", driver)
        answers = {"cudaGetDeviceProperties": SimpleNamespace(major=9, minor=0)}
        monkeypatch.setattr(_kernels, "call", lambda name, *_arguments: answers.get(name))
        return driver

    return made


def test_a_job_is_launched_over_the_whole_map_on_the_stream(driven):
    driver = driven()
    job = _device_imaging.FiniteJob(height=20, width=70)
    _kernels.Kernels(0).launch("FiniteJob", job, SimpleNamespace(handle=77))
    ((function, *rest),) = driver.launched
    assert b"FiniteJob" in driver.names[function]
    assert rest == [3, 3, 77, 20, 70]


@pytest.mark.parametrize(("failing", "said"), [("load", "cuLibraryLoadData"), ("launch", "cuLaunchKernel")])
def test_a_driver_that_fails_is_reported(failing, said, driven):
    driven(failing=failing)
    with pytest.raises(ResourceError, match=f"{said}: invalid context"):
        _kernels.Kernels(0).launch("FiniteJob", _device_imaging.FiniteJob(height=1, width=1), SimpleNamespace(handle=7))


@pytest.mark.parametrize("size", [(1, 1), (8, 32), (9, 33), (1080, 1920)], ids=str)
def test_blocks_cover_the_map(size):
    across, down = _kernels.grid_of(*size)
    assert (across - 1) * 32 < size[1] <= across * 32
    assert (down - 1) * 8 < size[0] <= down * 8


def test_a_very_tall_map_is_walked():
    assert _kernels.grid_of(10_000_000, 3) == (1, 65535)


# --- the golden vectors -----------------------------------------------------------------------------------------------


@pytest.mark.needs("compiler")
@cases_of("preprocess", "resize_uint8_input")
def test_images_are_resized_as_on_the_host(case, arrays, there):
    resizing, put = there
    image, wanted = (arrays[f"{case['name']}.{end}"] for end in ("input", "output"))
    given, target = put(image), resizing.new(wanted.shape, wanted.dtype)
    resizing.prepare(given.address, Size(*image.shape[:2]), ImageSpec(**case["arguments"]["spec"]), target)
    assert np.array_equal(on_host(target), wanted)


@pytest.mark.needs("compiler")
@cases_of("resize_bicubic", "restore", "labels_from_logits")
def test_outputs_are_resized_as_on_the_host(case, arrays, there):
    resizing, put = there
    given, wanted = (arrays[f"{case['name']}.{end}"] for end in ("input", "output"))
    finish = resizing.labels if case["function"] == "labels_from_logits" else resizing.depth
    size, rule = Size(*case["arguments"]["size"]), case["arguments"].get("rule", "bicubic")
    finish = partial(finish, rule=rule)
    assert np.array_equal(resized(resizing, finish, put(given[None]), size, wanted.dtype), wanted)


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@cases_of("resize_labels")
def test_labels_are_resized_as_on_the_host(case, dtype, arrays, there):
    resizing, put = there
    given, wanted = (arrays[f"{case['name']}.{end}"] for end in ("input", "output"))
    labels = put((given[None].astype(np.int64) - 1).astype(dtype))
    size = Size(*case["arguments"]["size"])
    assert np.array_equal(resized(resizing, resizing.labels, labels, size, np.uint16), wanted)


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_found_wherever_it_stands(value, there):
    resizing, put = there
    for at in ((0, 0, 0), (0, 4, 6), (0, 8, 0)):
        values = np.ones((1, 9, 7), np.float32)
        values[at] = value
        flag = put(np.zeros((1,), np.int32))
        resizing.check(put(values), flag.address)
        assert (on_host(flag)[0] == 0) == np.isfinite(value)


@pytest.mark.needs("compiler")
def test_filters_are_kept_and_the_oldest_make_room(there, stood_in, monkeypatch):
    monkeypatch.setattr(_device_imaging, "_KEPT_FILTERS", 3)
    (resizing, put), (_, cuda, _) = there, stood_in
    values = np.random.default_rng(0).normal(size=(1, 9, 7)).astype(np.float32)
    given = put(values)
    resized(resizing, resizing.depth, given, Size(20, 20), np.float32)
    held = len(cuda.held)
    for side, rule in ((30, "bicubic"), (30, "bilinear"), (40, "bicubic"), (20, "bilinear-corners"), (30, "bicubic")):
        size = Size(side, side)
        found = resized(resizing, partial(resizing.depth, rule=rule), given, size, np.float32)
        assert np.array_equal(found, resample.restore(values[0], size, rule))
    assert len(cuda.held) <= held + 1
