"""Pixels of the messages ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage``. Needs the extra ``images``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core import limits
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.optional import extra

with extra("images", purpose="reading images"):
    import cv2

    from dpt_deploy.imaging.files import Pixels, decode_image

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


class Picture(Protocol):
    """A message with a header and bytes: one of the two kinds of images."""

    header: Any
    data: Any


@runtime_checkable
class RawPicture(Protocol):
    """The message ``sensor_msgs/Image``; ``step`` is the length of a row in bytes."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class _Layout(NamedTuple):
    """The samples of one pixel, and the way from them to RGB (H, W, 3) uint8."""

    type: str
    channels: int
    to_rgb: Callable[[NDArray[Any]], NDArray[Any]]


def _converted(code: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda values: np.asarray(cv2.cvtColor(values, code))


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, axis=2)


_LAYOUTS = {
    "rgb8": _Layout("u1", 3, np.ascontiguousarray),
    "bgr8": _Layout("u1", 3, _converted(cv2.COLOR_BGR2RGB)),
    "8UC3": _Layout("u1", 3, _converted(cv2.COLOR_BGR2RGB)),  # cv_bridge's reading: OpenCV's own order
    "rgba8": _Layout("u1", 4, _converted(cv2.COLOR_RGBA2RGB)),
    "bgra8": _Layout("u1", 4, _converted(cv2.COLOR_BGRA2RGB)),
    "8UC4": _Layout("u1", 4, _converted(cv2.COLOR_BGRA2RGB)),
    "mono8": _Layout("u1", 1, _grey),
    "8UC1": _Layout("u1", 1, _grey),
    "mono16": _Layout("u2", 1, lambda values: _grey((values >> 8).astype(np.uint8))),
    "rgb16": _Layout("u2", 3, lambda values: (values >> 8).astype(np.uint8)),
    "bgr16": _Layout("u2", 3, lambda values: (values[..., ::-1] >> 8).astype(np.uint8)),
    "yuv422": _Layout("u1", 2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": _Layout("u1", 2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": _Layout("u1", 2, _converted(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": _Layout("u1", 2, _converted(cv2.COLOR_YUV2RGB_YUY2)),
    "bayer_rggb8": _Layout("u1", 1, _converted(cv2.COLOR_BayerRGGB2RGB)),
    "bayer_bggr8": _Layout("u1", 1, _converted(cv2.COLOR_BayerBGGR2RGB)),
    "bayer_gbrg8": _Layout("u1", 1, _converted(cv2.COLOR_BayerGBRG2RGB)),
    "bayer_grbg8": _Layout("u1", 1, _converted(cv2.COLOR_BayerGRBG2RGB)),
}


def pixels_of(message: Picture, topic: str) -> Pixels:
    """The image (H, W, 3) in RGB of a message of either kind; ``topic`` is for messages.

    Samples of 16 bits are cut to 8. Encodings are those of ``sensor_msgs/image_encodings``.

    Raises:
        BadFileError: the encoding is no picture that a person sees, or the bytes do not fit what the message says.
    """
    if not isinstance(message, RawPicture):
        return decode_image(Path(topic), np.asarray(message.data, np.uint8).tobytes())
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise BadFileError(
            f"an image of {topic} has the encoding {message.encoding!r}; expected one of {', '.join(_LAYOUTS)}",
            hint="name the topic of the colour camera (--topic); depth images and others are not pictures",
        )
    try:
        pixels = np.ascontiguousarray(layout.to_rgb(_samples(message, layout, topic)))
    except cv2.error as exc:  # an odd width in YUV, one row of a Bayer pattern
        raise BadFileError(
            f"an image of {topic} with {message.width}x{message.height} pixels cannot be read as {message.encoding}",
            hint="check the driver of the camera",
        ) from exc
    return pixels


def _samples(message: RawPicture, layout: _Layout, topic: str) -> NDArray[Any]:
    """The samples (H, W, channels), or (H, W) for one channel, in the byte order of this machine."""
    kind = np.dtype(layout.type).newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * layout.channels * kind.itemsize
    data = np.frombuffer(np.asarray(message.data, np.uint8).tobytes(), np.uint8)
    limits.IMAGE.check(Path(topic), 3 * message.width * message.height)
    if not (message.height > 0 and message.width > 0 and row <= message.step):
        raise BadFileError(
            f"an image of {topic} has {message.width}x{message.height} pixels of {message.encoding} and rows of "
            f"{message.step} bytes; expected at least {row}",
            hint="the message is damaged, or the driver of the camera writes it wrong",
        )
    if len(data) != message.step * message.height:
        raise BadFileError(
            f"an image of {topic} holds {len(data)} bytes; {message.height} rows of {message.step} need "
            f"{message.step * message.height}",
            hint="the message is damaged, or the driver of the camera writes it wrong",
        )
    rows = data.reshape(message.height, message.step)[:, :row]
    values = np.ascontiguousarray(rows).view(kind).astype(kind.newbyteorder("="))
    shape = (message.height, message.width) + ((layout.channels,) if layout.channels > 1 else ())
    return values.reshape(shape)
