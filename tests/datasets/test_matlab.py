"""The reader of MATLAB 5 matrices against SciPy's writer, and against damage."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed: pip install --group dev")

from scipy.io import loadmat, savemat

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.matlab import read_matrix

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a b.mat"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(654, 1), (1, 1), (2, 3), (2, 3, 4), (0, 1)])
def test_reads_what_scipy_writes(path, dtype, shape, compressed):
    """Odd names and sizes, so that padding and the short form of tags occur."""
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    others = {"before": np.ones((3, 1), np.uint8), "text": "a string", "cell": np.array([1, "x"], object)}
    savemat(path, {**others, "testNdxs": values, "after": np.eye(3)}, do_compression=compressed)
    found = read_matrix(path, "testNdxs")
    assert np.array_equal(found, values)
    assert found.shape == loadmat(path)["testNdxs"].shape == shape
    assert np.array_equal(read_matrix(path, "after"), np.eye(3))
    assert np.array_equal(read_matrix(path, "before"), np.ones((3, 1)))


def test_reads_the_other_byte_order(path):
    """As a big-endian machine would have written it."""

    def element(kind, content):
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    parts = [
        (6, struct.pack(">II", 6, 0)),
        (5, struct.pack(">ii", 1, 3)),
        (1, b"x"),
        (3, struct.pack(">hhh", 1, 2, 300)),
    ]
    matrix = element(14, b"".join(element(kind, content) for kind, content in parts))
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + matrix)
    assert read_matrix(path, "x").tolist() == [[1, 2, 300]] == loadmat(path)["x"].tolist()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"train": [[1]]}, "there is no such array"),
        ({}, "there is no such array"),
        ({"test": np.array([[1 + 2j]])}, "not an array of real numbers"),
        ({"test": np.array([1, "x"], object)}, "not an array of real numbers"),
        ({"test": np.array([np.eye(2), None], object)[:1]}, "not an array of real numbers"),
        ({"test": "654"}, "not an array of real numbers"),
    ],
    ids=["another name", "nothing", "complex", "cells", "a cell", "text"],
)
def test_refuses_what_is_no_matrix_of_numbers(path, variables, message):
    savemat(path, variables)
    with pytest.raises(BadFileError, match=message):
        read_matrix(path, "test")


def test_refuses_what_is_no_file_of_matlab_5(path, tmp_path):
    for content in (b"", b"text", b"\0" * 500, b"\x89HDF\r\n\x1a\n" * 100):
        path.write_bytes(content)
        with pytest.raises(BadFileError, match="the header is that of another format") as caught:
            read_matrix(path, "x")
        assert str(path) in str(caught.value)
        assert caught.value.hint
    with pytest.raises(BadFileError, match="No such file"):
        read_matrix(tmp_path / "nowhere.mat", "x")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_refused_or_does_not_matter(path, compressed):
    """Cut anywhere, or with bytes overwritten: an error that names the file, never another one."""
    values = np.arange(1, 40, dtype=np.uint16)[:, None]
    savemat(path, {"testNdxs": values}, do_compression=compressed)
    whole = path.read_bytes()
    rng, complaints = np.random.default_rng(0), []
    for trial in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(126, len(data), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(whole[: rng.integers(0, len(whole))] if trial % 3 == 0 else data.tobytes())
        try:
            assert read_matrix(path, "testNdxs").size
        except BadFileError as exc:
            complaints.append(str(exc))
    assert len(complaints) > 150
    assert all(str(path) in complaint for complaint in complaints)


def test_a_shape_that_does_not_fit_is_refused(path):
    savemat(path, {"x": np.arange(6.0)[:, None]})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<ii", 6, 1), struct.pack("<ii", 7, 1)))
    with pytest.raises(BadFileError, match=r"6 values do not fill the shape \[7, 1\]"):
        read_matrix(path, "x")
    path.write_bytes(data.replace(struct.pack("<ii", 6, 1), struct.pack("<ii", -6, -1)))
    with pytest.raises(BadFileError, match="do not fill the shape"):
        read_matrix(path, "x")


def test_a_bomb_is_not_inflated(path):
    """256 MiB of zeros in 256 KB: what is read of them claims to be more than there is."""
    packed = zlib.compress(struct.pack("<II", 14, 1 << 28) + b"\0" * (1 << 28), 9)
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(BadFileError, match="shorter than its header states"):
        read_matrix(path, "x")
