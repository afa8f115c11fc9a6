"""Trimmed videos: the frames that an edit list leaves out are not missing."""

import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("cv2")

import cv2

from dpt_deploy.imaging.edit_list import shown_share
from dpt_deploy.imaging.video import VideoWriter, iter_video

FRAMES = 50
FRAME = 512  # units of the track's time scale (12,800 a second) in one frame


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "whole.mp4"
    with VideoWriter(path, 25) as writer:
        for index in range(FRAMES):
            writer.write(np.full((48, 64, 3), 5 * index, np.uint8))
    return path


def trimmed(source, target, milliseconds, begin):
    """The same file with another single entry in its edit list."""
    data = bytearray(source.read_bytes())
    entry = data.index(b"elst") + 12
    assert struct.unpack_from(">Ii", data, entry) == (2000, 0)
    struct.pack_into(">Ii", data, entry, milliseconds, begin)
    target.write_bytes(data)
    return target


def read(path):
    video = iter_video(path)
    return sum(1 for _ in video.frames), video


def test_a_whole_video_shows_all_its_frames(whole):
    assert shown_share(whole) == 1
    count, video = read(whole)
    assert (count, video.claimed, video.counted, video.shortfall) == (FRAMES, FRAMES, True, 0)


@pytest.mark.parametrize(
    ("milliseconds", "begin", "share"),
    [(1000, 0, 0.5), (1000, 10 * FRAME, 0.5), (2000, 10 * FRAME, 0.8), (9000, 0, 1.0)],
)
def test_what_an_edit_list_leaves_out_is_not_missing(whole, tmp_path, milliseconds, begin, share):
    path = trimmed(whole, tmp_path / "trimmed.mp4", milliseconds, begin)
    assert shown_share(path) == pytest.approx(share)
    count, video = read(path)
    assert count == pytest.approx(share * FRAMES, abs=1)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES  # why the list has to be read
    assert video.shortfall == 0


def test_a_trimmed_video_that_is_cut_short_is_noticed(whole, tmp_path):
    """Without the last half of the trimmed frames' data, fewer are decoded than the edit list shows."""
    path = trimmed(whole, tmp_path / "cut.mp4", 1600, 0)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[begin + (end - begin) // 4 : end] = bytes(end - begin - (end - begin) // 4)
    path.write_bytes(data)
    count, video = read(path)
    assert count < 0.8 * FRAMES
    assert video.shortfall > 0


@pytest.mark.parametrize("name", [b"moov", b"mvhd", b"mdhd", b"elst", b"trak"])
def test_a_list_that_is_not_understood_changes_nothing(whole, tmp_path, name):
    data = whole.read_bytes().replace(name, b"none")
    (tmp_path / "odd.mp4").write_bytes(data)
    assert shown_share(tmp_path / "odd.mp4") == 1


def test_every_cut_of_the_file_is_read(whole, tmp_path):
    data = trimmed(whole, tmp_path / "trimmed.mp4", 1000, 0).read_bytes()
    for length in range(0, len(data), 37):
        (tmp_path / "cut.mp4").write_bytes(data[:length])
        assert shown_share(tmp_path / "cut.mp4") == 1


def test_a_part_behind_the_end_shows_nothing(whole, tmp_path):
    assert shown_share(trimmed(whole, tmp_path / "behind.mp4", 2000, 100 * FRAME)) == 0


def test_millions_of_empty_boxes_take_no_memory(whole, tmp_path):
    """A box takes 8 bytes of a file, and a Python tuple of it twenty times as many."""
    boxes = struct.pack(">I4s", 8, b"free") * (1 << 20)
    path = tmp_path / "boxes.mp4"
    path.write_bytes(struct.pack(">I4s", 8 + len(boxes), b"moov") + boxes)
    tracemalloc.start()
    try:
        assert shown_share(path) == 1
        assert tracemalloc.get_traced_memory()[1] < 3 * len(boxes)
    finally:
        tracemalloc.stop()
