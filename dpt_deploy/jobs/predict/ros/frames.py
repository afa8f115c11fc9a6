"""One camera message in, messages of depth, labels and points out: what a bag and a node have in common.

Nothing here imports ROS. The classes of messages are handed in, so those of ``rclpy`` and of ``rosbags`` both serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.task import CANONICAL_DEPTH, METRIC_DEPTH, Task
from dpt_deploy.imaging.maps import FocalLength
from dpt_deploy.imaging.points import Intrinsics, back_project
from dpt_deploy.jobs.predict.ros.pictures import IMAGE, Picture, pixels_of
from dpt_deploy.runtime.predictor import Prediction

CLOUD, FIELD = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField"
DEPTH, LABELS, POINTS = "depth", "labels", "points"
_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])  # 16 bytes, as most viewers expect it
_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32; colours are the bits of a float, by the convention of PCL


@runtime_checkable
class _CameraInfo2(Protocol):
    """A ``CameraInfo`` of ROS 2; in ROS 1 the matrices have capital letters."""

    k: Any


class PinholeCamera(NamedTuple):
    """The pinhole camera of a ``CameraInfo``: focal lengths and principal point in pixels, and the size it is for."""

    focal: FocalLength
    centre: tuple[float, float]
    height: int
    width: int


def camera_of(message: Any, topic: str) -> PinholeCamera:
    """The camera of a message ``sensor_msgs/CameraInfo`` of ROS 1 (``K``) or ROS 2 (``k``).

    Raises:
        BadFileError: the camera is not calibrated.
    """
    matrix = np.asarray(message.k if isinstance(message, _CameraInfo2) else message.K, np.float64).reshape(-1)
    usable = matrix.size == 9 and bool(np.isfinite(matrix).all()) and matrix[0] > 0 and matrix[4] > 0
    if not usable:
        raise BadFileError(
            f"{topic} has no focal length: its matrix K is {matrix.tolist()}",
            hint="calibrate the camera, name another topic (--camera-info), or give the focal length (--focal)",
        )
    focal, centre = FocalLength(float(matrix[0]), float(matrix[4])), (float(matrix[2]), float(matrix[5]))
    return PinholeCamera(focal, centre, int(message.height), int(message.width))


def published(tasks: list[Task], *, camera: bool) -> list[str]:
    """The names of what is published for outputs of ``tasks``: ``depth`` is in metres, and nothing else is.

    With a ``camera`` canonical depth becomes metres, and metres become points.
    """
    return list(dict.fromkeys(_name(task, camera=camera) for task in tasks)) + (
        [POINTS] if camera and any(_name(task, camera=True) == DEPTH for task in tasks) else []
    )


def _name(task: Task, *, camera: bool) -> str:
    if task.of_classes:
        return LABELS
    if task.name == METRIC_DEPTH.name or (camera and task.name == CANONICAL_DEPTH.name):
        return DEPTH
    return (task.quantity or task.name).replace(" ", "_").replace("-", "_")


class Frames:
    """Answers camera messages with messages of maps.

    ``predict`` turns an RGB image into its maps. ``types`` has the classes of the messages by their names in ROS 2.
    ``buffer`` turns bytes into what a message keeps as ``data``. ``focal`` turns canonical depth into metres instead of
    the focal length of the camera. ``points`` are made from metres if there is a camera.
    """

    def __init__(
        self,
        predict: Callable[[Any], Prediction],
        types: Mapping[str, Any],
        *,
        buffer: Callable[[bytes], Any] = bytes,
        focal: tuple[float, float] | None = None,
        points: bool = True,
    ) -> None:
        self._predict, self._types, self._buffer = predict, types, buffer
        self._focal, self._points = focal, points

    def answer(
        self, message: Picture, header: Any, camera: PinholeCamera | None = None, topic: str = ""
    ) -> dict[str, Any]:
        """The messages for one image by name (:func:`published`), each with ``header``: its stamp and its frame.

        Raises:
            BadFileError: the image cannot be read, or the camera is for images of another size.
        """
        pixels = pixels_of(message, topic or "the camera")
        if camera and (camera.height, camera.width) != pixels.shape[:2]:
            raise BadFileError(
                f"the camera is described for {camera.width}x{camera.height} pixels; images of {topic} have "
                f"{pixels.shape[1]}x{pixels.shape[0]}",
                hint="name the camera_info of the same camera and resolution (--camera-info)",
            )
        prediction = self._predict(pixels)
        focal = self._focal or (camera and (camera.focal.x, camera.focal.y))
        if focal and any(each.camera for each in prediction.maps.values()):
            prediction = prediction.in_metres(focal)
        made = {}
        for each in prediction.maps.values():
            name = _name(each.task, camera=False)
            if name not in made:
                made[name] = self._image(each.values, "mono16" if name == LABELS else "32FC1", header)
            if name == DEPTH and camera and self._points and POINTS not in made:
                made[POINTS] = self._cloud(each.values, pixels, camera, header)
        return made

    def _image(self, values: NDArray[Any], encoding: str, header: Any) -> Any:
        height, width = values.shape
        kept = values.astype("<f4" if encoding == "32FC1" else "<u2")
        return self._types[IMAGE](
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=width * kept.dtype.itemsize,
            data=self._buffer(kept.tobytes()),
        )

    def _cloud(self, depth: NDArray[np.float32], pixels: NDArray[np.uint8], camera: PinholeCamera, header: Any) -> Any:
        """An organised cloud: one point for each pixel, in rows."""
        height, width = depth.shape
        points, colours = np.zeros((height, width), _POINT), pixels.astype(np.uint32)
        for axis, values in zip(
            "xyz", np.moveaxis(back_project(depth, Intrinsics(*camera.focal, *camera.centre)), 2, 0), strict=True
        ):
            points[axis] = values
        points["rgb"] = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
        fields = [
            self._types[FIELD](name=name, offset=4 * index, datatype=_FLOAT32, count=1)
            for index, name in enumerate(_POINT.names or ())
        ]
        return self._types[CLOUD](
            header=header,
            height=height,
            width=width,
            fields=fields,
            is_bigendian=False,
            point_step=_POINT.itemsize,
            row_step=_POINT.itemsize * width,
            data=self._buffer(points.tobytes()),
            is_dense=True,
        )


def require_points(names: list[str], quantity: str) -> None:
    """Raise :class:`UsageError` if ``names`` hold no points although they are asked for."""
    if POINTS not in names:
        raise UsageError(
            f"points need a camera_info and depth in metres; this model returns {quantity or 'no depth'}",
            hint="use a metric model such as hybrid-kitti or hybrid-nyu, with the topic of its camera (--camera-info)",
        )
