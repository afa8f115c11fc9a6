"""Point clouds as bytes of a file: binary PLY, and glTF 2.0 in one binary file (GLB). NumPy only."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.imaging.points import PointCloud

_GLB, _VERSION = b"glTF", 2
_POINTS, _ARRAY_BUFFER, _FLOAT, _UNSIGNED_SHORT = 0, 34962, 5126, 5123  # constants of the glTF 2.0 specification
_UNLIT = "KHR_materials_unlit"  # points have no shading of their own
_TO_GLTF = np.array([1, -1, -1], np.float32)  # y up, and the camera looks along -z
_FRAME = "frame camera: x right, y down, z forward"


def ply_bytes(cloud: PointCloud) -> bytes:
    """A little-endian PLY: float x y z, with normals nx ny nz if there are any, then uchar red green blue.

    Coordinates are those of the camera (x right, y down, z forward). Comments state the unit and the frame.
    """
    fields: list[tuple[str, str, str]] = [(axis, "<f4", "float") for axis in ("x", "y", "z")]
    if cloud.normals is not None:
        fields += [(axis, "<f4", "float") for axis in ("nx", "ny", "nz")]
    fields += [(colour, "u1", "uchar") for colour in ("red", "green", "blue")]
    rows = np.empty(len(cloud.points), [(name, kind) for name, kind, _ in fields])
    _fill(rows, ("x", "y", "z"), cloud.points)
    _fill(rows, ("red", "green", "blue"), cloud.colours)
    if cloud.normals is not None:
        _fill(rows, ("nx", "ny", "nz"), cloud.normals)
    lines = ["ply", "format binary_little_endian 1.0", f"comment {cloud.note}", f"comment {_FRAME}"]
    lines += [f"element vertex {len(rows)}", *(f"property {kind} {name}" for name, _, kind in fields), "end_header", ""]
    return "\n".join(lines).encode("ascii") + rows.tobytes()


def glb_bytes(cloud: PointCloud) -> bytes:
    """A glTF 2.0 file with one primitive of POINTS: positions, colours, and normals if there are any.

    Axes are those of glTF: x right, y up, and the camera looks along -z. Colours are linear there, in 16 bits. The
    unit stands in ``asset.extras``; glTF itself takes every number for metres.
    """
    arrays: dict[str, NDArray[Any]] = {"POSITION": (cloud.points * _TO_GLTF).astype("<f4")}
    if cloud.normals is not None:
        arrays["NORMAL"] = (_whole_normals(cloud.normals) * _TO_GLTF).astype("<f4")
    arrays["COLOR_0"] = _linear_colours(cloud.colours)
    document = _document(arrays, cloud)
    body = b"".join(array.tobytes() for array in arrays.values())
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(body)
    return b"".join(
        (
            struct.pack("<4sII", _GLB, _VERSION, length),
            struct.pack("<I4s", len(text), b"JSON") + text,
            struct.pack("<I4s", len(body), b"BIN\0") + body,
        )
    )


def _document(arrays: dict[str, NDArray[Any]], cloud: PointCloud) -> dict[str, Any]:
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for name, array in arrays.items():
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": _ARRAY_BUFFER})
        colour = name == "COLOR_0"
        accessor: dict[str, Any] = {
            "bufferView": len(accessors),
            "componentType": _UNSIGNED_SHORT if colour else _FLOAT,
            "count": len(array),
            "type": f"VEC{array.shape[1]}",
        }
        if colour:
            accessor["normalized"] = True
        if name == "POSITION":
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        accessors.append(accessor)
        offset += array.nbytes
    extras = {"units": "metres" if cloud.metric else "relative", "note": cloud.note}
    attributes = {name: index for index, name in enumerate(arrays)}
    return {
        "asset": {"version": "2.0", "generator": "dpt-deploy", "extras": extras},
        "extensionsUsed": [_UNLIT],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "mode": _POINTS, "material": 0}]}],
        "materials": [{"extensions": {_UNLIT: {}}}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }


def _fill(rows: NDArray[Any], names: tuple[str, ...], values: NDArray[Any]) -> None:
    for column, name in enumerate(names):
        rows[name] = values[:, column]


def _whole_normals(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normals, each of length 1 as glTF demands: an unknown one points at the camera."""
    unknown = ~normals.any(axis=1, keepdims=True)
    return np.where(unknown, np.array([0, 0, -1], np.float32), normals)


def _linear_colours(colours: NDArray[np.uint8]) -> NDArray[Any]:
    """Linear RGBA (N, 4) of sRGB bytes, as normalised 16-bit integers (IEC 61966-2-1)."""
    srgb = np.arange(256) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    table = np.round(linear * 65535).astype("<u2")
    out = np.full((len(colours), 4), 65535, "<u2")
    out[:, :3] = table[colours]
    return out
