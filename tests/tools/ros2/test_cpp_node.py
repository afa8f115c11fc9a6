"""The node of ROS 2 in C++, built against a fake of ``rclcpp``: what it publishes compared with Python."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from support.mean_depth import depth_artifact
from support.native import done, native_build
from support.paths import ROOT
from support.tiny import exported

from dpt_deploy.jobs.predict.load import load

pytestmark = [pytest.mark.needs("compiler"), pytest.mark.needs("torch")]
NODE, FAKE = ROOT / "tools/ros2/dpt_ros2_cpp", ROOT / "tests/tools/ros2/fake_ros"
FRAME = "camera_optical"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build, made = native_build(), tmp_path_factory.mktemp("node") / "depth"
    include = [f"-I{folder}" for folder in (NODE / "include", ROOT / "cpp/include", FAKE)]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    link = [f"-L{build}", "-ldpt", f"-Wl,-rpath,{build}"]
    done(shutil.which("c++"), *strict, *include, NODE / "src/node.cpp", "-o", made, *link)
    return made


@pytest.fixture
def spin(program, tmp_path):
    """Send lines to the node; return the exit code, the maps by topic, the warnings and the whole output."""

    def run(lines, **parameters):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        env = {**os.environ, "FAKE_ROS_OUT": str(tmp_path)}
        command = [str(program), "--ros-args", *words]
        text = "\n".join(lines) + "\n"
        ended = subprocess.run(command, input=text, capture_output=True, text=True, env=env, timeout=120, check=False)
        maps, warnings = {}, []
        for line in ended.stdout.splitlines():
            kind, _, rest = line.partition(": ")
            if kind == "warning":
                warnings.append(rest)
            elif kind == "published":
                topic, encoding, height, width, step, big, frame, file = rest.split()
                dtype = np.dtype({"32FC1": "<f4", "mono16": "<u2"}[encoding])
                assert (int(step), big, frame) == (int(width) * dtype.itemsize, "0", FRAME)
                maps[topic] = np.fromfile(tmp_path / file, dtype).reshape(int(height), int(width))
        return ended.returncode, maps, warnings, ended.stderr

    return run


def photo():
    rows, columns = np.mgrid[:48, :64]
    return np.stack([3 * rows + 20, 3 * columns, 100 + rows + columns], 2).astype(np.uint8)


def sent(folder, encoding="rgb8", *, padding=0, step=0):
    """A line for the fake, with the photo in ``encoding``."""
    rgb = photo()
    channels = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "bgra8": np.dstack([rgb[..., ::-1], rgb[..., 0]])}
    rows = channels.get(encoding, rgb).reshape(48, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    path = folder / f"{encoding}-{padding}"
    path.write_bytes(rows.tobytes())
    return f"image {encoding} 48 64 {step or rows.shape[1]} {FRAME} {path}"


@pytest.mark.parametrize(("encoding", "padding"), [("rgb8", 0), ("bgr8", 5), ("bgra8", 0)])
@pytest.mark.parametrize(("task", "topic"), [("depth", "~/inverse_depth"), ("metric-depth", "~/depth")])
def test_depth_is_python_s_in_every_bit(spin, tmp_path, encoding, padding, task, topic):
    model = depth_artifact(tmp_path, task).path
    code, maps, warnings, _ = spin([sent(tmp_path, encoding, padding=padding)], model=model)
    with load(model) as predictor:
        expected = predictor(photo()).depth
    assert (code, list(maps), warnings) == (0, [topic], [])
    np.testing.assert_array_equal(maps[topic], expected)
    assert not np.array_equal(maps[topic], expected[::-1])


def test_two_outputs_are_published_and_the_camera_gives_metres(spin, tmp_path):
    model, image = exported("tiny-sky").path, sent(tmp_path)
    with load(model) as predictor:
        canonical = predictor(photo())
    _, plain, _, _ = spin([image], model=model)
    assert set(plain) == {"~/canonical_depth", "~/sky"}
    for lines, parameters in (
        ([f"camera_info 48 64 500 500\n{image}"], {}),
        (["camera_info 48 64 9 9", image], {"focal": 500}),  # the parameter is stronger
    ):
        _, maps, warnings, _ = spin(lines, model=model, **parameters)
        assert (set(maps), warnings) == ({"~/depth", "~/sky"}, [])
        expected = canonical.in_metres((500.0, 500.0)).depth
        np.testing.assert_allclose(maps["~/depth"], expected, rtol=1e-5)
    assert np.ptp(maps["~/sky"]) > 0


def test_what_cannot_be_used_is_reported_once_and_the_node_lives_on(spin, tmp_path):
    model, good = exported("tiny-sky").path, sent(tmp_path)
    lines = [sent(tmp_path, "16UC1")] * 3 + [sent(tmp_path, step=7), "camera_info 48 64 0 500", "camera_info 24 32 9 9"]
    code, maps, warnings, _ = spin([*lines, good, "camera_info 48 64 500 500", good], model=model)
    assert code == 0
    assert ["16UC1" in line for line in warnings] == [True, False, False, False]
    assert "rows of 7 bytes" in warnings[1]
    assert "calibrate the camera" in warnings[2]
    assert "another size" in warnings[3]
    assert set(maps) == {"~/depth", "~/sky"}


def test_a_model_that_cannot_be_opened_ends_the_node_with_its_code(spin, tmp_path):
    code, maps, _, text = spin([], model=tmp_path / "missing.onnx")
    assert (code, maps) == (4, {})
    assert "missing.onnx" in text
