"""The latest frame: older ones are dropped and counted, errors and the end come through, and leaving never waits."""

import threading

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.predict.live.latest import LatestFrame

pytestmark = pytest.mark.fast


def test_a_reader_that_comes_late_gets_the_latest_frame_and_the_others_are_counted():
    with LatestFrame("abcde") as camera:
        camera._thread.join()
        assert camera.take() == (4, "e")
        assert camera.take() is None
    assert camera.dropped == 4


def test_a_reader_that_is_fast_enough_gets_every_frame():
    taken = threading.Semaphore()

    def frames():
        for each in "abcde":
            taken.acquire()
            yield each

    found = []
    with LatestFrame(frames()) as camera:
        while (frame := camera.take()) is not None:
            found.append(frame)
            taken.release()
    assert (found, camera.dropped) == (list(enumerate("abcde")), 0)


def test_an_error_of_the_camera_comes_after_the_frames_before_it():
    def frames():
        yield "a"
        raise BadFileError("torn cable")

    with LatestFrame(frames()) as camera:
        assert camera.take() == (0, "a")
        with pytest.raises(BadFileError, match="torn cable"):
            camera.take()


def test_a_reader_can_stop_waiting_and_the_camera_is_released():
    go_on, released = threading.Event(), threading.Event()

    def frames():
        try:
            while True:
                go_on.wait()
                yield "a"
        finally:
            released.set()

    looks = iter([False, True])
    with LatestFrame(frames()) as camera:
        assert camera.take(lambda: next(looks)) is None
        go_on.set()
    assert released.wait(10)


def test_leaving_does_not_wait_for_the_next_frame_of_a_file():
    with LatestFrame("ab", interval=1e6) as camera:
        assert camera.take() == (0, "a")
    assert not camera._thread.is_alive()
