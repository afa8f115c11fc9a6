"""The C++ runtime builds, its own tests pass (also under sanitizers), and a project of somebody else can use it."""

import os
import re
import shutil
from pathlib import Path

import pytest
import skimage.data
from support.native import ROOT, as_plan, built, cmake, configured, done, native_build, run, write_ppm
from support.tiny import copied, exported

from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.measure.metrics import range_error

pytestmark = pytest.mark.needs("compiler")

UNOPTIMISED = ("-DDPT_TESTS=OFF", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O0")  # for what must only build


def passed(folder, *chosen):
    """Count the tests of a build that passed; fails with their output if one of the chosen did not."""
    said = done(cmake("ctest"), "--test-dir", folder, "--output-on-failure", *chosen)
    (count,) = re.findall(r"100% tests passed(?:, 0 tests failed)? out of (\d+)", said)
    return int(count)


def test_the_tests_in_cpp_pass():
    assert passed(native_build()) >= 10


def test_the_tests_in_cpp_pass_under_address_and_undefined_behaviour_sanitizers():
    assert passed(native_build("address,undefined")) >= 8


def test_threads_pass_under_the_thread_sanitizer():
    assert passed(native_build("thread"), "-R", "test_threads") == 1


def test_a_sanitizer_would_complain(tmp_path):
    """The builds above are instrumented: the same flags notice a read past the end."""
    flags = (native_build("address,undefined") / "CMakeFiles/dpt_core.dir/flags.make").read_text()
    (tmp_path / "bad.cpp").write_text("int main(int n, char**) { int* a = new int[2]; return a[n + 1]; }")
    chosen = [word for word in flags.split() if word.startswith("-fsanitize")]
    done("c++", *chosen, tmp_path / "bad.cpp", "-o", tmp_path / "bad")
    assert "heap-buffer-overflow" in run(tmp_path / "bad").stdout


def test_a_whole_prediction_is_clean_under_sanitizers(tmp_path):
    photograph = write_ppm(tmp_path / "coffee.ppm", skimage.data.coffee())
    tool = native_build("address,undefined") / "dpt_run"
    said = done(tool, exported("tiny-vit").path, photograph, tmp_path / "depth.pfm")
    assert "Sanitizer" not in said
    assert (tmp_path / "depth.pfm").stat().st_size > 4 * 400 * 600


@pytest.mark.parametrize(
    ("damage", "text"), [("truncate", "bytes, its sidecar says"), ("flip", "does not match its sidecar")]
)
def test_a_damaged_model_is_one_clear_line(damage, text, tmp_path):
    artifact = copied(exported("tiny-vit"), tmp_path)
    data = bytearray(artifact.path.read_bytes())
    data[len(data) // 2] ^= 1
    artifact.path.write_bytes(data[:-1] if damage == "truncate" else data)
    found = run(native_build() / "dpt_run", artifact.path, "x.ppm", "x.pfm")
    assert found.returncode == 4
    assert text in found.stdout
    assert "hint: " in found.stdout


def test_a_project_that_uses_the_installed_library_builds_and_runs(tmp_path):
    done(cmake(), "--install", native_build(), "--prefix", tmp_path / "there")
    configured(ROOT / "cpp/examples/consumer", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}")
    built(tmp_path / "build")
    photograph = write_ppm(tmp_path / "coffee.ppm", skimage.data.coffee())
    done(tmp_path / "build/depth", exported("tiny-vit").path, photograph, tmp_path / "depth.pfm")
    expected = read_pfm(tmp_path / "depth.pfm")
    assert expected.shape == (400, 600)
    done(tmp_path / "build/depth_in_c", exported("tiny-vit").path, photograph, tmp_path / "c.pfm")
    assert range_error(read_pfm(tmp_path / "c.pfm"), expected)[0] <= 1e-6  # two threads, or as many as there are
    assert run(tmp_path / "build/depth_in_c", "absent.onnx", photograph, tmp_path / "none.pfm").returncode == 4
    assert done(tmp_path / "build/frames", exported("tiny-vit").path).count("frame ") == 5


HEADERS = {  # what a compiler defines, and what the macro becomes
    "GNU": (("-D__GNUC__=9",), 'visibility("default")'),
    "MSVC, user": (("-U__GNUC__", "-D_WIN32"), "__declspec(dllimport)"),
    "MSVC, library": (("-U__GNUC__", "-D_WIN32", "-DDPT_BUILD"), "__declspec(dllexport)"),
    "another compiler": (("-U__GNUC__", "-U_WIN32"), ""),
    "a static library": (("-DDPT_STATIC",), ""),
}


@pytest.mark.parametrize(("defines", "expected"), HEADERS.values(), ids=HEADERS)
def test_both_compiler_families_export_the_names(defines, expected, tmp_path):
    """Preprocessed only: the macro, without the system's headers."""
    (tmp_path / "stddef.h").touch()
    (tmp_path / "stdint.h").touch()
    text = done("cc", "-E", "-P", "-w", "-nostdinc", *defines, "-I", tmp_path, ROOT / "cpp/include/dpt/dpt.h")
    (before,) = re.findall(r"(?:^|\n|\})\s*([^;{}]*)const char \*dpt_version", text)
    assert (expected in before) if expected else (not before.strip())


def test_the_example_in_the_header_compiles(tmp_path):
    comment = (ROOT / "cpp/include/dpt/dpt.h").read_text().partition("*/")[0]
    example = "\n".join(re.findall(r"^ \*   (.*)$", comment, re.MULTILINE))
    assert "dpt_default_options" in example
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <dpt/dpt.h>\n"
    source = tmp_path / "example.c"
    source.write_text(f"{head}void f(const uint8_t *rgb, int32_t height, int32_t width) {{\n{example}\n}}\n")
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", ROOT / "cpp/include", source]
    done(*command)
    source.write_text(source.read_text().replace("dpt_predict_depth(model, &image,", "dpt_predict_depth(model, image,"))
    assert run(*command).returncode != 0


def test_the_example_of_the_readme_is_the_file_that_is_built():
    (shown,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown == (ROOT / "cpp/examples/consumer/depth.cpp").read_text()


def test_the_bench_tool_reports_percentiles_and_the_split():
    said = done(
        native_build() / "dpt_bench",
        exported("tiny-vit").path,
        "--res",
        "64,64x96",
        "--image",
        "120x160",
        "--seconds",
        "0.01",
    )
    assert [line.split()[0] for line in said.splitlines()] == ["size", "64x64", "64x96"]
    for wrong in (("--res", "64,,96"), ("--res", "50"), ("--threads", "two"), ("--image",)):
        assert run(native_build() / "dpt_bench", exported("tiny-vit").path, *wrong).returncode == 2


@pytest.mark.parametrize("output", ["in.ppm", "link.pfm", "m.onnx", "m.onnx.json"])
def test_dpt_run_does_not_overwrite_what_it_reads(output, tmp_path):
    write_ppm(tmp_path / "in.ppm", skimage.data.coffee()[:8, :8])
    (tmp_path / "link.pfm").symlink_to("in.ppm")
    for name in ("m.onnx", "m.onnx.json"):
        (tmp_path / name).touch()
    before = (tmp_path / "in.ppm").read_bytes()
    found = run(native_build() / "dpt_run", tmp_path / "m.onnx", tmp_path / "in.ppm", tmp_path / output)
    assert (found.returncode, "is an input; it would be overwritten" in found.stdout) == (2, True)
    assert (tmp_path / "in.ppm").read_bytes() == before


@pytest.mark.parametrize("tool", ["dpt_run", "dpt_bench"])
def test_a_tool_says_how_it_is_called(tool):
    asked, wrong = run(native_build() / tool, "--help"), run(native_build() / tool)
    assert (asked.returncode, wrong.returncode) == (0, 2)
    assert asked.stdout == wrong.stdout
    assert asked.stdout.startswith(f"usage: {tool} ")
    assert " MODEL.onnx|MODEL.plan " in asked.stdout.splitlines()[0]


def test_without_onnx_runtime_the_rest_still_builds():
    """The build for the thread sanitizer has no back end, because those libraries are not instrumented."""
    found = run(native_build("thread") / "dpt_run", exported("tiny-vit").path, "x.ppm", "x.pfm")
    assert (found.returncode, "it has: none" in found.stdout) == (3, True)


def test_the_tensorrt_back_end_compiles_and_says_what_it_lacks(tmp_path):
    """Needs the headers: TENSORRT_ROOT, and a CUDA runtime (CUDAToolkit_ROOT); no GPU. With nvcc, the kernels too."""
    if not os.environ.get("TENSORRT_ROOT"):
        pytest.skip("no NvInfer.h: NVIDIA puts it into no package; TENSORRT_ROOT must lead to a download of TensorRT")
    native_build()
    options = [
        f"-DDPT_DEPENDENCIES={ROOT / 'build/cpp/dependencies'}",
        f"-DTENSORRT_ROOT={os.environ['TENSORRT_ROOT']}",
    ]
    configured(ROOT / "cpp", tmp_path, *options, "-DCMAKE_CUDA_ARCHITECTURES=90", *UNOPTIMISED)
    built(tmp_path, "dpt_run")
    headers = Path(os.environ["TENSORRT_ROOT"], "include/NvInferVersion.h").read_text()
    (major,) = re.findall(r"define (?:TRT_MAJOR_\w+|NV_TENSORRT_MAJOR) (\d+)", headers)
    tool = (tmp_path / "dpt_run", as_plan(copied(exported("tiny-vit"), tmp_path / "copy")), "x.ppm", "x.pfm")
    found = {name: run(*tool, env={"DPT_TENSORRT": library}) for name, library in fakes(tmp_path, int(major)).items()}
    assert {name: said.returncode for name, said in found.items()} == {"another version": 6, "this version": 6}
    assert f"is of version {int(major) + 1}.0.0.0" in found["another version"].stdout
    if "needs an NVIDIA GPU" in found["this version"].stdout:  # else there is one, and the fake library is no TensorRT
        assert "built by tensorrt 1.2.3.4 without a GPU" in found["this version"].stdout


def fakes(folder, major):
    """Libraries that say that they are TensorRT: of the version after ``major``, and of it."""
    source = folder / "fake.c"
    source.write_text(
        "void *createInferRuntime_INTERNAL(void *logger, int version) { return 0; }\n"
        "int getInferLibMajorVersion(void) { return MAJOR; }\n"
    )
    libraries = {"another version": major + 1, "this version": major}
    for name, number in libraries.items():
        libraries[name] = str(folder / f"libfake.so.{number}")
        done("cc", "-shared", "-fPIC", f"-DMAJOR={number}", source, "-o", libraries[name])
    return libraries


def test_the_kernels_round_as_the_cpu_does(tmp_path):
    """nvcc may fuse a product and a sum into one rounding; what it makes of the kernels must hold neither that nor
    approximate division. Needs no GPU."""
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not installed: it is NVIDIA's compiler, which machines without a GPU lack")
    include = [f"-I{ROOT / folder}" for folder in ("cpp/src", "cpp/include", "dpt_deploy/data/cuda")]
    done(
        "nvcc",
        "-std=c++17",
        "-arch=sm_90",
        *include,
        "-ptx",
        ROOT / "cpp/src/kernels.cu",
        "-o",
        tmp_path / "kernels.ptx",
    )
    (tmp_path / "fused.cu").write_text("__global__ void f(float* a) { a[0] = a[1] * a[2] + a[3]; }")
    done("nvcc", "-arch=sm_90", "-ptx", tmp_path / "fused.cu", "-o", tmp_path / "fused.ptx")
    found, fused = (
        set(re.findall(r"\b(\w+\.[a-z.]*f(?:32|64))\b", (tmp_path / f"{name}.ptx").read_text()))
        for name in ("kernels", "fused")
    )
    assert {"mul.rn.f64", "add.rn.f64", "div.rn.f64", "mul.rn.f32", "add.rn.f32"} <= found
    assert not [name for name in found if name.startswith(("fma", "mad", "rcp")) or "approx" in name]
    assert [name for name in fused if name.startswith("fma")]  # and this is how one would be noticed


def test_a_library_that_is_no_onnx_runtime_is_reported():
    found = run(
        native_build() / "dpt_run", exported("tiny-vit").path, "x.ppm", "x.pfm", env={"DPT_ONNXRUNTIME": "libm.so.6"}
    )
    assert found.returncode == 3
    assert "older than the headers" in found.stdout
