"""A camera's intrinsics from a file: JSON, or the four numbers fx fy cx cy."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from dpt_deploy.core import limits
from dpt_deploy.core.documents import parse_json, read_regular
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.points import CalibratedCamera, Intrinsics

_HINT = 'expected {"fx": …, "fy": …, "cx": …, "cy": …}, {"K": [nine numbers]}, or the text: fx fy cx cy'
_MATRIX = 9  # numbers of a camera matrix, row by row


def read_intrinsics(path: Path) -> CalibratedCamera:
    """The camera of a file, in pixels; pixel (0, 0) has its centre at (0, 0).

    The file is JSON with ``fx``, ``fy``, ``cx``, ``cy``, or with the matrix ``K`` or ``camera_matrix``: nine numbers,
    three rows, or an object with ``data``. Or it is a text with four numbers. ``width`` and ``height`` in JSON state
    the size of the images.

    Raises:
        BadFileError: the file cannot be read or has none of these.
        UsageError: the numbers are no camera.
    """
    raw = read_regular(path, limits.JSON, what="intrinsics", hint=_HINT)
    try:
        if raw.lstrip().startswith(b"{"):
            return _from_json(parse_json(raw))
        fx, fy, cx, cy = map(float, raw.decode().replace(",", " ").split())
    except (KeyError, OverflowError, TypeError, ValueError) as exc:
        raise BadFileError(f"intrinsics {path} cannot be understood: {_reason(exc)}", hint=_HINT) from exc
    return CalibratedCamera(Intrinsics(fx, fy, cx, cy))


def _from_json(table: dict[str, Any]) -> CalibratedCamera:
    sides = [table.get("height"), table.get("width")]
    size = None if sides == [None, None] else Size(*(_whole(side) for side in sides))
    matrix = table.get("K", table.get("camera_matrix"))
    if matrix is None:
        return CalibratedCamera(Intrinsics(*(_number(table[name]) for name in ("fx", "fy", "cx", "cy"))), size)
    return CalibratedCamera(_of_matrix(matrix), size)


def _of_matrix(matrix: Any) -> Intrinsics:
    if isinstance(matrix, dict):
        matrix = matrix["data"]
    if isinstance(matrix, list) and all(isinstance(row, list) for row in matrix):
        matrix = list(chain.from_iterable(matrix))
    numbers = [_number(each) for each in matrix]
    if len(numbers) != _MATRIX:
        raise ValueError(f"the matrix has {len(numbers)} numbers; expected {_MATRIX}")
    fx, skew, cx, low, fy, cy, *last = numbers
    if (skew, low, *last) != (0, 0, 0, 0, 1):
        raise ValueError("the matrix is not [fx 0 cx; 0 fy cy; 0 0 1]")
    return Intrinsics(fx, fy, cx, cy)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"width and height are whole numbers, not {value!r}")
    return value


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
