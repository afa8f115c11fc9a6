"""The camera that is named: numbers, addresses and files, and those that do not exist."""

import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.imaging.video import iter_video
from dpt_deploy.jobs.predict.live.camera import open_camera

VIDEOS = Path(__file__).parents[3] / "support" / "videos"
DAMAGED = VIDEOS / "corrupt_mid.mp4"


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def address():
    """The folder of videos, served on this machine."""
    handler = functools.partial(Silent, directory=VIDEOS)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_plays_the_camera_at_its_own_rate():
    camera = open_camera(str(DAMAGED))
    frames = list(camera.video.frames)
    np.testing.assert_array_equal(frames[:3], list(iter_video(DAMAGED).frames)[:3])
    assert (camera.interval, camera.file) == (1 / camera.video.fps, DAMAGED)
    assert camera.loss(len(frames)) == f"{DAMAGED}: 56 of 60 frames could be decoded"


def test_a_stream_is_read_from_its_address(address):
    camera = open_camera(f"{address}/{DAMAGED.name}")
    first = next(camera.video.frames)
    np.testing.assert_array_equal(first, next(iter_video(DAMAGED).frames))
    assert (camera.interval, camera.file, camera.loss(1)) == (0, None, "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("93", "camera 93 sends no picture"),
        ("http://127.0.0.1:9/x.mp4", "x.mp4 sends no picture"),
        ("nowhere.mp4", "does not exist"),
    ],
)
def test_a_camera_that_does_not_exist_is_an_error_and_opencv_adds_nothing(name, said, capfd):
    with pytest.raises(BadFileError, match=said):
        open_camera(name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["file:///etc/passwd", "concat://a|b", "://x"])
def test_an_address_of_another_protocol_is_refused(name):
    with pytest.raises(UsageError, match="has the protocol"):
        open_camera(name)
