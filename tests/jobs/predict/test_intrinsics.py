"""Intrinsics from files, and points through ``run``."""

import json

import numpy as np
import pytest
from support.faults.calling import fine
from support.tiny import exported

from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.files import read_image
from dpt_deploy.jobs.predict.intrinsics import read_intrinsics
from dpt_deploy.jobs.predict.load import load

PHOTOGRAPH = "dpt_deploy/data/photographs/coffee.jpg"
FOUR = {"fx": 500.0, "fy": 510.0, "cx": 320, "cy": 240}
MATRIX = [500, 0, 320, 0, 510, 240, 0, 0, 1]
needs_models = pytest.mark.needs("torch", "onnxruntime", "cv2")


@pytest.mark.fast
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(FOUR),
        json.dumps({"K": MATRIX}),
        json.dumps({"camera_matrix": {"rows": 3, "cols": 3, "data": MATRIX}}),
        json.dumps({"K": [MATRIX[:3], MATRIX[3:6], MATRIX[6:]]}),
        "500 510 320 240\n",
        "500, 510, 320, 240",
    ],
)
def test_each_form_gives_the_same_camera(tmp_path, text):
    path = tmp_path / "camera.txt"
    path.write_text(text)
    assert read_intrinsics(path).at(Size(480, 640)) == (500, 510, 320, 240)


@pytest.mark.fast
@pytest.mark.parametrize(
    "text",
    ["", "1 2 3", "{", '{"fx": 1}', '{"K": [1, 2]}', '{"K": 5}', '{"K": [500, 9, 1, 0, 500, 1, 0, 0, 1]}']
    + [json.dumps(FOUR | wrong) for wrong in ({"fx": "500"}, {"width": 640}, {"width": -1, "height": 2}, {"cx": True})],
)
def test_what_is_no_camera_is_refused(tmp_path, text):
    path = tmp_path / "camera.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match=r"intrinsics .* cannot be understood"):
        read_intrinsics(path)


@pytest.mark.fast
def test_a_camera_of_another_size_is_refused(tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(FOUR | {"width": 640, "height": 480}))
    with pytest.raises(UsageError, match="are for images of"):
        read_intrinsics(path).at(Size(100, 100))


def vertices(path):
    head, _, body = path.read_bytes().partition(b"end_header\n")
    dtype = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    return head.decode(), np.frombuffer(body, dtype)


@needs_models
def test_run_writes_relative_points_with_the_colours_of_the_photograph(capsys, tmp_path):
    path, image = exported("tiny-vit").path, read_image(PHOTOGRAPH)
    fine(capsys, "run", path, PHOTOGRAPH, "-o", tmp_path / "a.ply", "--fov", "60", "--edge", "0", "--stride", "7")
    head, rows = vertices(tmp_path / "a.ply")
    colours = np.stack([rows[name] for name in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(colours, image[::7, ::7].reshape(-1, 3))
    assert "units relative (not metres)" in head
    assert (rows["z"].min(), rows["z"].max()) == pytest.approx((1, 10), rel=0.2)


@needs_models
def test_run_writes_metres_of_a_metric_model(capsys, tmp_path):
    path, image = exported("tiny-metric").path, read_image(PHOTOGRAPH)
    fine(
        capsys,
        "run",
        path,
        PHOTOGRAPH,
        "-o",
        tmp_path,
        "--format",
        "ply",
        "--format",
        "glb",
        "--focal",
        "500",
        "--edge",
        "0",
    )
    (written,) = tmp_path.glob("*.ply")
    head, rows = vertices(written)
    with load(path) as model:
        depth = model(image).depth
    np.testing.assert_array_equal(rows["z"], depth[depth > 0])
    assert "units metres" in head
    assert written.with_suffix(".glb").read_bytes()[:4] == b"glTF"


@needs_models
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "ply"], "needs the camera"),
        (["--format", "ply", "--fov", "0"], "field of view"),
        (["--format", "ply", "--fov", "60", "--focal", "500"], "each name the camera"),
        (["--format", "png", "--stride", "2"], "options of points need the camera"),
        (["--format", "png", "--fov", "60"], "a focal length does not change it"),
        (["--format", "ply", "--fov", "60", "--kitti-crop"], "moves the centre"),
        (["--format", "ply", "--fov", "60", "--resume"], "archives have no points"),
    ],
)
def test_options_that_make_no_points_are_refused(capsys, tmp_path, options, message):
    assert call(["run", str(exported("tiny-vit").path), PHOTOGRAPH, "-o", f"{tmp_path}/out/", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
