"""Bags in, bags out: both kinds of ROS, both kinds of images, times and frames, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the module rosbags is not installed: pip install -e '.[ros]'")

from rosbags.highlevel import AnyReader
from support.bags import INFO, MATRIX, TEXT, TOPIC, camera_info, drive, image, photo, write_bag
from support.mean_depth import depth_artifact

from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.predict.ros.bag import run_bag


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    return depth_artifact(tmp_path_factory.mktemp("relative")).path


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return depth_artifact(tmp_path_factory.mktemp("metric"), "metric-depth").path


def messages(path):
    """Topic, time and object of every message, read by rosbags."""
    with AnyReader([path]) as reader:
        return [(c.topic, time, reader.deserialize(data, c.msgtype)) for c, time, data in reader.messages()]


def depths(path, topic):
    return [(time, found) for name, time, found in messages(path) if name == topic]


@pytest.mark.parametrize("name", ["in.bag", "in"])
@pytest.mark.parametrize("small", [False, True], ids=["raw", "compressed"])
def test_depth_has_the_numbers_of_the_model_and_the_stamp_of_the_image(name, small, relative, tmp_path):
    source, out = drive(tmp_path / name, small=small), tmp_path / f"out{'.bag' * name.endswith('.bag')}"
    result = run_bag(relative, source, out)
    assert (result.images, result.topics, result.errors) == (2, (f"{TOPIC}/inverse_depth",), ())
    found = depths(out, f"{TOPIC}/inverse_depth")
    with load(relative) as predictor:
        for index, (time, message) in enumerate(found):
            assert (message.header.stamp.sec, message.header.stamp.nanosec) == (100 + index, 7000 + index)
            assert (message.header.frame_id, message.encoding) == ("camera_optical", "32FC1")
            assert time == 10**9 * (index + 3)
            values = message.data.view("<f4").reshape(message.height, message.width)
            np.testing.assert_array_equal(values, predictor(photo(index)).depth)
    assert len(found) == 2


@pytest.mark.parametrize("mcap", [False, True], ids=["db3", "mcap"])
def test_a_bag_of_ros_2_keeps_its_storage_and_one_file_of_it_is_read(mcap, relative, tmp_path):
    source = drive(tmp_path / "in", mcap=mcap)
    run_bag(relative, source, tmp_path / "out")
    (stored,) = (tmp_path / "out").glob("*.mcap" if mcap else "*.db3")
    run_bag(relative, next(source.glob("in*.mcap" if mcap else "in*.db3")), tmp_path / "again")
    assert len(messages(stored)) == len(messages(tmp_path / "again")) == 6


@pytest.mark.parametrize("name", ["in.bag", "in"])
def test_other_topics_are_copied_byte_for_byte_or_dropped(name, relative, tmp_path):
    source, end = drive(tmp_path / name), ".bag" * name.endswith(".bag")
    run_bag(relative, source, tmp_path / f"all{end}")
    run_bag(relative, source, tmp_path / f"new{end}", others="drop")

    def raw(path):
        with AnyReader([path]) as reader:
            return [(c.topic, c.msgtype, c.digest, time, bytes(data)) for c, time, data in reader.messages()]

    assert [row for row in raw(tmp_path / f"all{end}") if "depth" not in row[0]] == raw(source)
    assert {row[0] for row in raw(tmp_path / f"new{end}")} == {f"{TOPIC}/inverse_depth"}


@pytest.mark.parametrize("name", ["in.bag", "in"])
def test_points_come_from_metres_and_the_camera(name, metric, tmp_path):
    out = tmp_path / f"out{'.bag' * name.endswith('.bag')}"
    assert run_bag(metric, drive(tmp_path / name), out, points=True).topics == (f"{TOPIC}/depth", f"{TOPIC}/points")
    ((_, cloud), *_), ((_, depth), *_) = depths(out, f"{TOPIC}/points"), depths(out, f"{TOPIC}/depth")
    points = cloud.data.view([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")]).reshape(48, 64)
    values = depth.data.view("<f4").reshape(48, 64)
    np.testing.assert_array_equal(points["z"], values)
    assert points["x"][5, 40] == pytest.approx((40 - MATRIX[2]) / MATRIX[0] * values[5, 40], rel=1e-6)
    assert cloud.header.frame_id == "camera_optical"


def test_a_damaged_image_is_counted_and_the_others_are_written(relative, tmp_path):
    bad = image(photo(0))
    bad.data = bad.data[:-9]
    source = write_bag(tmp_path / "in", [(TOPIC, image(photo(0))), (TOPIC, bad), (TOPIC, image(photo(1)))])
    done = call(["run", str(relative), str(source), "-o", str(tmp_path / "out")])
    assert done == BadFileError.exit_code
    assert len(depths(tmp_path / "out", f"{TOPIC}/inverse_depth")) == 2


def test_no_bag_is_left_if_no_image_can_be_read(relative, tmp_path):
    source = write_bag(tmp_path / "in", [(TOPIC, image(photo(0)[..., 0], "16SC7"))])
    with pytest.raises(BadFileError, match="none of the 1 images"):
        run_bag(relative, source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"topic": "/nowhere"}, UsageError, "/nowhere is not in the bag"),
        ({"topic": TEXT}, UsageError, "holds std_msgs/msg/String, not images"),
        ({"camera_info": TEXT}, UsageError, "no camera_info at /chatter"),
        ({"points": True}, UsageError, "points need a camera_info and depth in metres; this model returns inverse"),
        ({"out": "out.bag"}, UsageError, "is a bag of ROS 2"),
        ({"out": "in"}, UsageError, "exists"),
    ],
    ids=["no topic", "another type", "no camera", "no metres", "another kind", "taken"],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(options, error, match, relative, tmp_path):
    source = drive(tmp_path / "in")
    options = {"out": "out"} | options
    with pytest.raises(error, match=match):
        run_bag(relative, source, tmp_path / options.pop("out"), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_several_cameras_need_a_name(relative, tmp_path):
    source = write_bag(tmp_path / "in", [("/left", image(photo(0))), ("/right", image(photo(1)))])
    with pytest.raises(UsageError, match="2 topics with images"):
        run_bag(relative, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("matrix", "size", "match"),
    [(np.zeros(9), (48, 64), "has no focal length"), (MATRIX, (480, 640), "described for 640x480")],
    ids=["not calibrated", "another size"],
)
def test_a_camera_that_does_not_fit_is_refused(matrix, size, match, metric, tmp_path):
    info = camera_info(matrix=matrix, size=size)
    source = write_bag(tmp_path / "in", [(INFO, info), (TOPIC, image(photo(0)))])
    with pytest.raises(BadFileError, match=match):
        run_bag(metric, source, tmp_path / "out", points=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # rosbags leaves the file open
def test_files_that_are_no_bags_are_refused(relative, tmp_path):
    for name in ("no.bag", "no.db3", "no.mcap"):
        (tmp_path / name).write_bytes(b"#ROSBAG V9.9\n" * 9)
        with pytest.raises(BadFileError, match="cannot be opened as a bag"):
            run_bag(relative, tmp_path / name, tmp_path / "out")
    with pytest.raises(BadFileError, match="does not exist"):
        run_bag(relative, tmp_path / "missing.bag", tmp_path / "out.bag")


def test_a_bag_whose_middle_is_damaged_leaves_nothing(relative, tmp_path):
    source = drive(tmp_path / "in.bag")
    data = bytearray(source.read_bytes())
    place = data.index(b"op=\x02", 4200)  # the first message
    data[place - 8 : place + 40] = b"\xff" * 48
    source.write_bytes(data)
    with pytest.raises(BadFileError, match=r"is damaged|cannot be"):
        run_bag(relative, source, tmp_path / "out.bag")
    assert [path.name for path in tmp_path.iterdir()] == ["in.bag"]


@pytest.mark.parametrize(("option", "value"), [("--format", "png"), ("--fov", "60"), ("--tag", "a")])
def test_options_of_images_are_refused_for_a_bag(option, value, relative, tmp_path, capsys):
    source = drive(tmp_path / "in")
    asked = ["run", str(relative), str(source), "-o", str(tmp_path / "out")]
    assert call(asked) == 0
    assert call([*asked, option, value]) == UsageError.exit_code
    assert f"{option} cannot be used with a bag" in capsys.readouterr().err


def test_options_of_bags_are_refused_for_images(relative, tmp_path, capsys):
    assert call(["run", str(relative), str(tmp_path / "photo.png"), "--topic", "/a"]) == UsageError.exit_code
    assert "--topic is for bags of ROS" in capsys.readouterr().err
