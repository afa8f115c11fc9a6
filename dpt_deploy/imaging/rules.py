"""Image to network input and network output to map, as the original DPT code computes them. NumPy only.

The filters have a replicated border and no antialiasing; the cubic ones have a = -0.75 and four taps a side:

* the *input* filter is OpenCV's ``INTER_CUBIC`` on float64, reproduced bit for bit (``cv2.resize`` of 4.13 and 5.0);
* the *output* filter is ``torch.nn.functional.interpolate`` in float32: bicubic, or as ``ImageSpec.restore`` says.

Arrays of pixels are height first; a grey map is (H, W), a colour image (H, W, 3) in RGB.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging.resample import cubic, resize_cubic

KITTI_CROP = Size(352, 1216)  # the original's --kitti_crop


def require_rgb(image: Any) -> None:
    """Raise :class:`UsageError` unless ``image`` is a NumPy array, uint8 of shape (H, W, 3), with pixels in it."""
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"the image is of type {type(image).__name__}; expected a NumPy array, uint8 of shape (height, width, 3)",
            hint="read it with dpt_deploy.read_image, or convert it with numpy.asarray",
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UsageError(
            f"the image is {image.dtype} of shape {image.shape}; expected uint8 of shape (height, width, 3)",
            hint="convert it to 8-bit RGB first",
        )


def network_size(height: int, width: int, spec: ImageSpec, stride: int) -> Size:
    """The size at which an image of ``height`` x ``width`` enters the network (the original's ``Resize.get_size``).

    ``minimal`` follows the axis whose scale is nearer to 1 (a tie follows the height); ``lower_bound`` covers the asked
    size and ``upper_bound`` stays within it. Sides become multiples of ``stride``, half to even as ``np.round`` does.
    A deviation: a side that rounds to 0 becomes one ``stride``, where the original fails.
    """
    scale_h, scale_w = spec.height / height, spec.width / width
    if spec.keep_aspect:
        follow_width = {
            "minimal": abs(1 - scale_w) < abs(1 - scale_h),
            "lower_bound": scale_w > scale_h,
            "upper_bound": scale_w < scale_h,
        }[spec.resize]
        scale_h = scale_w = scale_w if follow_width else scale_h
    sides = ((scale_h * height, spec.height), (scale_w * width, spec.width))
    return Size(*(_multiple(side, bound, spec, stride) for side, bound in sides))


def _multiple(side: float, bound: int, spec: ImageSpec, stride: int) -> int:
    multiple = int(np.round(side / stride)) * stride
    if spec.resize == "upper_bound" and multiple > bound:
        multiple = math.floor(side / stride) * stride
    if spec.resize == "lower_bound" and multiple < bound:
        multiple = math.ceil(side / stride) * stride
    return max(multiple, stride)


def preprocess(image: NDArray[np.uint8], spec: ImageSpec, stride: int) -> NDArray[np.float32]:
    """The network's input (1, 3, h, w) from an RGB image (H, W, 3), bit for bit what the original feeds.

    ``image / 255`` is resized and normalised in float64 and rounded to float32 last; overshoot is not clipped.
    """
    require_rgb(image)
    size = network_size(image.shape[0], image.shape[1], spec, stride)
    resized = cubic(image, size, 255.0)
    out = np.empty((1, 3, size.height, size.width), np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        out[0, channel] = (resized[..., channel] - mean) / std
    return out


def resize_uint8_input(image: NDArray[np.uint8], spec: ImageSpec, stride: int) -> NDArray[np.uint8]:
    """The input (1, h, w, 3) of an artefact that normalises inside its graph.

    An approximation of :func:`preprocess`: the resized pixels are rounded half to even and clipped to 0..255, so the
    normalised input is off by up to half a level, and by the overshoot next to saturated pixels.
    """
    require_rgb(image)
    resized = resize_cubic(image, network_size(image.shape[0], image.shape[1], spec, stride))
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)[None]


def kitti_crop(image: NDArray[Any]) -> NDArray[Any]:
    """The bottom 352 rows and centred 1216 columns, a view (the original's ``--kitti_crop``).

    Raises:
        UsageError: the image is smaller than that.
    """
    height, width = image.shape[:2]
    if height < KITTI_CROP.height or width < KITTI_CROP.width:
        raise UsageError(
            f"the image is {height}x{width} (height x width); the KITTI crop needs at least {KITTI_CROP}",
            hint="leave out the KITTI crop for this image",
        )
    top, left = height - KITTI_CROP.height, (width - KITTI_CROP.width) // 2
    return image[top:, left : left + KITTI_CROP.width]
