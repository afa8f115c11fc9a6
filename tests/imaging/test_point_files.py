"""PLY and GLB, read back by libraries written elsewhere where they are installed, and by a plain parser always."""

import io
import json
import struct

import numpy as np
import pytest

from dpt_deploy.imaging.point_files import glb_bytes, ply_bytes
from dpt_deploy.imaging.points import PointCloud

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(3)
POINTS = RNG.uniform(-2, 2, (7, 3)).astype(np.float32)
COLOURS = RNG.integers(0, 256, (7, 3), np.uint8)
NORMALS = np.tile(np.float32([[0, 0.6, -0.8]]), (7, 1))
NOTE = "units relative (not metres): by a test"


def cloud(*, normals=True, metric=False):
    return PointCloud(POINTS, COLOURS, NORMALS if normals else None, metric, "units metres" if metric else NOTE)


def parsed_ply(data):
    head, _, body = data.partition(b"end_header\n")
    lines = [line.split() for line in head.decode().splitlines()]
    assert lines[:2] == [["ply"], ["format", "binary_little_endian", "1.0"]]
    kinds = {"float": "<f4", "uchar": "u1"}
    dtype = [(line[2], kinds[line[1]]) for line in lines if line[0] == "property"]
    count = next(int(line[2]) for line in lines if line[0] == "element")
    rows = np.frombuffer(body, dtype)
    assert len(rows) == count
    return rows, [" ".join(line[1:]) for line in lines if line[0] == "comment"]


def parsed_glb(data):
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    document = json.loads(data[20 : 20 + size])
    body_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert (kind, body_size % 4, body_size) == (b"BIN\0", 0, document["buffers"][0]["byteLength"])
    body = data[28 + size :]
    arrays = {}
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    for name, index in primitive["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5123: "<u2"}[accessor["componentType"]]
        part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        arrays[name] = np.frombuffer(part, dtype).reshape(accessor["count"], int(accessor["type"][3:]))
    return document, arrays


@pytest.mark.parametrize("normals", [True, False])
def test_a_ply_holds_points_colours_and_its_unit(normals):
    rows, comments = parsed_ply(ply_bytes(cloud(normals=normals)))
    np.testing.assert_array_equal(np.stack([rows[axis] for axis in "xyz"], 1), POINTS)
    np.testing.assert_array_equal(np.stack([rows[name] for name in ("red", "green", "blue")], 1), COLOURS)
    assert ("nx" in rows.dtype.names) == normals
    assert comments[0] == NOTE


def test_a_glb_holds_them_in_its_own_axes():
    document, arrays = parsed_glb(glb_bytes(cloud()))
    np.testing.assert_array_equal(arrays["POSITION"], POINTS * np.float32([1, -1, -1]))
    np.testing.assert_allclose(arrays["NORMAL"], NORMALS * [1, -1, -1])
    srgb = COLOURS / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(arrays["COLOR_0"][:, :3] / 65535, linear, atol=1e-5)
    position = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert position["min"] == arrays["POSITION"].min(0).tolist()
    assert position["max"] == arrays["POSITION"].max(0).tolist()
    assert document["asset"]["extras"]["units"] == "relative"


@pytest.mark.parametrize(("metric", "unit"), [(True, "metres"), (False, "relative")])
def test_only_metres_are_called_metres(metric, unit):
    document, _ = parsed_glb(glb_bytes(cloud(metric=metric)))
    assert document["asset"]["extras"]["units"] == unit


def test_an_unknown_normal_has_length_one_in_a_glb():
    unknown = PointCloud(POINTS, COLOURS, np.zeros_like(POINTS), True, "units metres")
    _, arrays = parsed_glb(glb_bytes(unknown))
    np.testing.assert_allclose(np.linalg.norm(arrays["NORMAL"], axis=1), 1)


def test_trimesh_reads_both():
    trimesh = pytest.importorskip("trimesh")
    ply = trimesh.load(io.BytesIO(ply_bytes(cloud())), file_type="ply")
    np.testing.assert_array_equal(ply.vertices, POINTS)
    np.testing.assert_array_equal(ply.colors[:, :3], COLOURS)
    (glb,) = trimesh.load(io.BytesIO(glb_bytes(cloud())), file_type="glb").geometry.values()
    np.testing.assert_array_equal(glb.vertices, POINTS * np.float32([1, -1, -1]))
