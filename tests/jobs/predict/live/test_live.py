"""``run --camera``: the latest frame into a video or a window; files are whole however it ends."""

import itertools
import json
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.reporting import recording
from support.tiny import exported

from dpt_deploy.cli import call
from dpt_deploy.core.errors import UsageError
from dpt_deploy.imaging.files import colorize
from dpt_deploy.imaging.steady import Steadier
from dpt_deploy.imaging.video import Video, iter_video
from dpt_deploy.jobs.predict.live import camera as cameras
from dpt_deploy.jobs.predict.live import live, window
from dpt_deploy.jobs.predict.live.latest import LatestFrame
from dpt_deploy.jobs.predict.live.live import run_live
from dpt_deploy.jobs.predict.load import load

DEPTH, SEGMENTATION = "tiny-vit", "tiny-seg"
DAMAGED = Path(__file__).parents[3] / "support" / "videos" / "corrupt_mid.mp4"
FRAMES = 8


@pytest.fixture
def street(tmp_path):
    path = tmp_path / "street.mp4"
    picture = np.random.default_rng(0).integers(0, 256, (6, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (80, 48))
    for step in range(FRAMES):
        writer.write(picture[:, step : step + 80].copy())
    writer.release()
    return path


@pytest.fixture
def patient(monkeypatch):
    """A camera that waits until each frame is taken, so that none is dropped."""

    class Patient(LatestFrame):
        def __init__(self, frames, *, interval):
            super().__init__(frames)
            self._turn = threading.Semaphore()

        def take(self, stopped):
            found = super().take(stopped)
            self._turn.release()
            return found

        def _put(self, frame):
            self._turn.acquire()
            super()._put(frame)

        def __exit__(self, *error):
            self._turn.release(FRAMES)
            super().__exit__(*error)

    monkeypatch.setattr(live, "LatestFrame", Patient)


@pytest.fixture
def shown(monkeypatch):
    """The frames that are given to a writer of videos."""
    found = []

    class Recorder(live.VideoWriter):
        def write(self, frame):
            found.append(frame)
            super().write(frame)

    monkeypatch.setattr(live, "VideoWriter", Recorder)
    return found


def frames_in(path):
    return sum(1 for _ in iter_video(path).frames)


@pytest.mark.parametrize("stable", [False, True])
def test_every_frame_is_computed_where_the_network_is_fast_enough(stable, street, patient, shown, tmp_path):
    result = run_live(exported(DEPTH).path, str(street), tmp_path / "out.mp4", stable=stable)
    steadier, expected = Steadier(), []
    with load(exported(DEPTH).path) as model:
        for frame in iter_video(street).frames:
            depth = model(frame).depth
            expected.append(colorize(steadier(depth, frame), ends=steadier.ends) if stable else colorize(depth))
    np.testing.assert_array_equal(shown, expected)
    assert (result.frames, result.dropped, result.written) == (FRAMES, 0, (tmp_path / "out.mp4",))
    assert (result.error, result.fps > 0) == ("", True)


def test_a_file_plays_at_its_rate_and_no_frame_is_lost_from_the_count(street, tmp_path):
    with recording() as reporter:
        result = run_live(exported(SEGMENTATION).path, str(street), f"{tmp_path}/out/", formats=("overlay",))
    assert result.frames + result.dropped == FRAMES
    assert [path.name for path in result.written] == ["street.mp4"]
    assert result.frames <= frames_in(result.written[0]) <= FRAMES
    (task,) = [task for task in reporter.tasks if task.name == "frames"]
    assert (task.done, task.closed, "a second" in task.item) == (result.frames, True, True)


def test_a_picture_stays_until_the_next():
    class Writer(list):
        write = list.append

    first, second = Writer(), Writer()
    film = live._Film({"a": first, "b": second})
    for number in (2, 3, 6):
        film.add(number, {"a": number, "b": -number})
    assert first == [2, 3, 3, 3, 6]
    assert second == [-2, -3, -3, -3, -6]


def test_a_number_of_frames_ends_the_run(street, patient, tmp_path):
    result = run_live(exported(DEPTH).path, str(street), tmp_path / "out.mp4", frames=3)
    assert (result.frames, frames_in(tmp_path / "out.mp4"), result.error) == (3, 3, "")


def test_an_interrupt_ends_the_run_with_a_whole_file(street, patient, tmp_path):
    former = signal.getsignal(signal.SIGINT)
    stop = {2: lambda: signal.raise_signal(signal.SIGINT)}
    with recording(lambda task: stop.pop(task.done, bool)()):
        result = run_live(exported(DEPTH).path, str(street), tmp_path / "out.mp4")
    assert (result.frames, frames_in(tmp_path / "out.mp4"), result.error) == (2, 2, "")
    assert signal.getsignal(signal.SIGINT) is former


def test_a_second_interrupt_leaves_nothing_half_written(street, patient, tmp_path):
    def twice(_task):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with recording(twice), pytest.raises(KeyboardInterrupt):
        run_live(exported(DEPTH).path, str(street), tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["street.mp4"]


def test_a_camera_that_stops_is_reported_and_the_file_is_whole(street, patient, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cameras, "iter_stream", lambda _: Video(25.0, iter_video(street).frames, 0, counted=False))
    argv = ["run", str(exported(DEPTH).path), "--camera", "0", "-o", str(tmp_path / "out.mp4"), "--json"]
    assert call(argv) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == FRAMES == frames_in(tmp_path / "out.mp4")
    assert f"camera 0 stopped after {FRAMES} frames" in err
    assert "0 older frames dropped" in err


def test_a_damaged_file_is_reported(tmp_path, capsys):
    argv = [
        "run",
        str(exported(DEPTH).path),
        "--camera",
        str(DAMAGED),
        "-o",
        str(tmp_path / "o.mp4"),
        "--size",
        "32x32",
    ]
    assert call(argv) == 4
    assert "56 of 60 frames could be decoded" in capsys.readouterr().err
    assert frames_in(tmp_path / "o.mp4") > 0


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--camera", "93", "-o", "o.mp4"], 4, "camera 93 sends no picture"),
        (["--camera", "0"], 2, "a camera needs an output"),
        (["photo.png", "--camera", "0", "-o", "o.mp4"], 2, "SOURCE cannot be used with --camera"),
        (["--camera", "0", "-o", "o.mp4", "--recursive"], 2, "--recursive cannot be used with --camera"),
        (["photo.png", "--frames", "3"], 2, "--frames is for a camera"),
        (["photo.png", "--show"], 2, "--show is for a camera"),
        ([], 2, "or give --camera N"),
        (["--camera", "file:///etc/passwd", "-o", "o.mp4"], 2, "has the protocol"),
    ],
)
def test_what_cannot_run_on_a_camera_is_refused(argv, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(["run", str(exported(DEPTH).path), *argv]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_the_playing_file_is_not_overwritten(street):
    with pytest.raises(UsageError, match="is an input"):
        run_live(exported(DEPTH).path, str(street), street)
    assert frames_in(street) == FRAMES


# --- window -----------------------------------------------------------------------------------------------------------


def test_without_a_display_or_a_gui_the_window_says_what_to_do(street, monkeypatch, capsys):
    monkeypatch.setattr(window.sys, "platform", "linux")
    argv = ["run", str(exported(DEPTH).path), "--camera", str(street), "--show"]
    for name in window._DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    assert call(argv) == 2
    assert "--show needs a display" in capsys.readouterr().err

    def no_gui(*_):
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", no_gui)
    assert call(argv) == 3
    assert "opencv-python-headless" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "visible", "frames"), [(-1, 1, FRAMES), (ord("q"), 1, 1), (27, 1, 1), (-1, 0, 1)])
def test_the_window_shows_each_picture_until_it_is_left(key, visible, frames, street, patient, monkeypatch):
    pictures, closed = [], []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: pictures.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible)
    monkeypatch.setattr(cv2, "destroyWindow", closed.append)
    result = run_live(exported(DEPTH).path, str(street), show=True, formats=("side",))
    assert (result.frames, len(pictures), len(closed), result.written) == (frames, frames, 1, ())
    np.testing.assert_array_equal(pictures[0][:, :80, ::-1], next(iter_video(street).frames))


def test_a_slow_camera_is_filmed_by_the_clock(street, tmp_path, monkeypatch, patient):
    """It states 25 frames a second and delivers five: each picture lasts five frames."""
    camera = replace(cameras.open_camera(str(street)), interval=0.0)
    ticks = itertools.count()

    def clock():  # a frame is taken, then the progress is shown
        return 0.2 * (next(ticks) // 2) + 100

    monkeypatch.setattr(live, "open_camera", lambda _name: camera)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=clock))
    found = run_live(exported(DEPTH).path, str(street), tmp_path / "out.mp4", frames=4)
    assert found.frames == 4
    assert len(list(iter_video(tmp_path / "out.mp4").frames)) == 1 + 3 * 5
