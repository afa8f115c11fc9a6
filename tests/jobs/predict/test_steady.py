"""``run VIDEO --stable``: what is written is steady, what cannot be steadied is refused."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
from support.reporting import recording
from support.tiny import exported

from dpt_deploy.cli import call
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import DEPTH as DEPTH_TASK
from dpt_deploy.core.task import LABELS
from dpt_deploy.imaging.files import colorize
from dpt_deploy.imaging.maps import Map
from dpt_deploy.imaging.steady import Steadier
from dpt_deploy.imaging.video import iter_video
from dpt_deploy.jobs.predict import files
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.predict.steady import SteadyMaps
from dpt_deploy.runtime.predictor import Prediction, Predictor

DEPTH, METRIC, SEGMENTATION = "tiny-vit", "tiny-metric", "tiny-seg"


@pytest.fixture
def street(tmp_path):
    """A video of six frames: three of a pan over one photograph, three over another."""
    path = tmp_path / "street.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (80, 48))
    for photo in (skimage.data.coffee()[::8, ::8], skimage.data.astronaut()[::8, ::8][::-1]):
        for step in range(3):
            writer.write(cv2.resize(photo[:40, step : step + 48], (80, 48))[:, :, ::-1].copy())
    writer.release()
    return path


@pytest.fixture
def shown(monkeypatch):
    """The frames that are given to writers of videos, by the name of the file."""
    found = {}

    class Recorder(files.VideoWriter):
        def write(self, frame):
            found.setdefault(self._path.name, []).append(frame)
            super().write(frame)

    monkeypatch.setattr(files, "VideoWriter", Recorder)
    return found


def expected(name, path, *, align):
    """Colours of the steady maps, made by hand."""
    steadier, pictures = Steadier(align=align), []
    with load(exported(name).path) as model:
        for frame in iter_video(path).frames:
            values = steadier(model(frame).depth, frame)
            pictures.append(colorize(values, ends=steadier.ends))
    return pictures


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize(
    ("name", "align", "said"), [(DEPTH, True, "scale, shift"), (METRIC, False, "network's (metres)")]
)
def test_depth_of_a_video_is_steadied_in_order(name, align, said, overlaps, street, shown, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "overlaps", overlaps)
    monkeypatch.setattr(Predictor, "predict_all", lambda self, images: map(self.predict, images))
    with recording() as reporter:
        (result,) = run_files(exported(name).path, street, tmp_path / "out.mp4", stable=True)
    np.testing.assert_array_equal(shown["out.mp4"], expected(name, street, align=align))
    assert result.frames == 6
    lines = [line for line in reporter.lines if "--stable" in line]
    assert said in lines[0]
    assert "1 scene cut;" in lines[1]
    assert [task.done for task in reporter.tasks if task.name == "frames"] == [6]


def test_without_the_option_frames_are_not_steadied(street, shown, tmp_path):
    run_files(exported(DEPTH).path, street, tmp_path / "out.mp4")
    plain, steady = shown["out.mp4"], expected(DEPTH, street, align=True)
    np.testing.assert_array_equal(plain[0], steady[0])
    assert not np.array_equal(plain[1], steady[1])


@pytest.mark.parametrize("kind", ["image", "folder"])
def test_what_has_no_frames_is_refused(kind, tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "photo.png"), skimage.data.coffee()[::8, ::8])
    source = tmp_path / "in" / "photo.png" if kind == "image" else tmp_path / "in"
    with pytest.raises(UsageError, match="--stable compares the frames of a video"):
        run_files(exported(DEPTH).path, source, tmp_path / "out", stable=True)
    assert not (tmp_path / "out").exists()


def test_a_model_without_depth_is_refused(street, tmp_path, capsys):
    argv = ["run", str(exported(SEGMENTATION).path), str(street), "-o", str(tmp_path / "o.mp4"), "--stable"]
    assert call(argv) == UsageError.exit_code
    assert "this model returns" in capsys.readouterr().err
    assert not (tmp_path / "o.mp4").exists()


def test_an_archive_is_refused(tmp_path, capsys):
    argv = ["run", str(exported(DEPTH).path), str(tmp_path), "-o", str(tmp_path / "o"), "--recursive", "--stable"]
    assert call(argv) == UsageError.exit_code
    assert "--stable is for videos" in capsys.readouterr().err


def test_labels_next_to_depth_stay_as_they_are():
    labels = Map(LABELS, np.ones((4, 4), np.uint16), num_classes=3)
    depth = Map(DEPTH_TASK, np.eye(4, dtype=np.float32))
    (record,) = exported(DEPTH).sidecar.outputs
    steady = SteadyMaps(tuple(replace(record, name=each.task.output, task=each.task.name) for each in (labels, depth)))
    prediction = Prediction(Size(4, 4), {"labels": labels, DEPTH_TASK.output: depth})
    found = steady(prediction, np.zeros((4, 4, 3), np.uint8))
    assert found.maps["labels"] is labels
    assert found.maps[DEPTH_TASK.output].ends == (0, 1)
