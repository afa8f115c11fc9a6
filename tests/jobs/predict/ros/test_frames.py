"""Messages of one image: what a model's outputs become, and points against OpenCV's projection."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dpt_deploy.core.size import Size
from dpt_deploy.core.task import CANONICAL_DEPTH, DEPTH, LABELS, METRIC_DEPTH
from dpt_deploy.imaging.maps import CanonicalCamera, FocalLength, Map
from dpt_deploy.jobs.predict.ros.frames import CLOUD, FIELD, Frames, PinholeCamera, published
from dpt_deploy.jobs.predict.ros.pictures import IMAGE
from dpt_deploy.runtime.predictor import Prediction

TYPES = dict.fromkeys((IMAGE, CLOUD, FIELD), SimpleNamespace)
CAMERA = PinholeCamera(FocalLength(50.0, 52.0), (15.5, 11.5), 24, 32)
PIXELS = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
RAW = SimpleNamespace(
    header="given", height=24, width=32, encoding="rgb8", is_bigendian=0, step=96, data=PIXELS.tobytes()
)
RAW.data = np.frombuffer(RAW.data, np.uint8)


def depth_map(task, **options):
    values = np.linspace(1, 9, 24 * 32, dtype=np.float32).reshape(24, 32)
    return Map(task, values, **options)


def frames(*maps, **options):
    found = Prediction(Size(24, 32), {f"output{index}": each for index, each in enumerate(maps)})
    return Frames(lambda _: found, TYPES, **options)


def test_two_outputs_become_depth_and_labels():
    labels = Map(LABELS, np.arange(24 * 32, dtype=np.uint16).reshape(24, 32), 900)
    made = frames(depth_map(DEPTH), labels).answer(RAW, "header", CAMERA)
    assert set(made) == {"inverse_depth", "labels"} == set(published([DEPTH, LABELS], camera=True))
    assert (made["labels"].encoding, made["labels"].step) == ("mono16", 64)
    np.testing.assert_array_equal(np.frombuffer(made["labels"].data, "<u2"), np.arange(24 * 32))
    assert made["inverse_depth"].header == "header"


def test_only_metres_are_called_depth():
    assert published([CANONICAL_DEPTH], camera=False) == ["canonical_depth"]
    assert published([CANONICAL_DEPTH], camera=True) == ["depth", "points"]
    canonical = depth_map(CANONICAL_DEPTH, camera=CanonicalCamera(25.0, 256.0))
    assert set(frames(canonical).answer(RAW, "")) == {"canonical_depth"}
    made = frames(canonical, points=False).answer(RAW, "", CAMERA)
    np.testing.assert_allclose(np.frombuffer(made["depth"].data, "<f4"), canonical.values.ravel() * 51 / 25, rtol=1e-6)
    made = frames(canonical, focal=(25.0, 25.0)).answer(RAW, "", CAMERA)
    np.testing.assert_array_equal(np.frombuffer(made["depth"].data, "<f4"), canonical.values.ravel())


def test_points_project_back_onto_their_pixels():
    depth = depth_map(METRIC_DEPTH)
    cloud = frames(depth).answer(RAW, "", CAMERA)["points"]
    assert (cloud.point_step, cloud.row_step, [each.name for each in cloud.fields]) == (16, 512, ["x", "y", "z", "rgb"])
    found = np.frombuffer(cloud.data, [("xyz", "<f4", 3), ("rgb", "<u4")])
    matrix = np.array([[50.0, 0, 15.5], [0, 52, 11.5], [0, 0, 1]])
    pixels = cv2.projectPoints(found["xyz"].astype(float), np.zeros(3), np.zeros(3), matrix, None)[0].reshape(24, 32, 2)
    rows, columns = np.indices((24, 32))
    np.testing.assert_allclose(pixels, np.stack([columns, rows], 2), atol=1e-4)
    np.testing.assert_array_equal(found["rgb"] & 255, PIXELS[..., 2].ravel())


def test_a_wrong_centre_is_noticed():
    """The check above fails for a camera that is half a pixel off."""
    clouds = [
        frames(depth_map(METRIC_DEPTH)).answer(RAW, "", camera)["points"].data
        for camera in (CAMERA, CAMERA._replace(centre=(16.0, 12.0)))
    ]
    first, second = (np.frombuffer(data, "<f4").reshape(-1, 4) for data in clouds)
    assert np.abs(first - second)[:, :2].max() > 0.01


def test_points_need_a_camera():
    assert set(frames(depth_map(METRIC_DEPTH)).answer(RAW, "")) == {"depth"}


@pytest.mark.parametrize("buffer", [bytes, bytearray])
def test_data_is_kept_as_the_message_wants_it(buffer):
    made = frames(depth_map(DEPTH), buffer=buffer).answer(RAW, "")
    assert type(made["inverse_depth"].data) is buffer
