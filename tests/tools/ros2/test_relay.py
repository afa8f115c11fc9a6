"""The node of ROS 2: its logic with messages of ``rosbags``, and its wiring with a fake of ``rclpy``."""

import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from support.paths import ROOT

pytest.importorskip("rosbags", reason="the module rosbags is not installed: pip install -e '.[ros]'")

from support.bags import ROS2, camera_info, compressed, image, photo
from support.mean_depth import depth_artifact

from dpt_deploy.core.size import Size
from dpt_deploy.core.task import LABELS, METRIC_DEPTH
from dpt_deploy.imaging.maps import Map
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.runtime.predictor import Prediction


@pytest.fixture
def package(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/ros2/dpt_ros2"))
    yield
    for name in [name for name in sys.modules if name.startswith("dpt_ros2")]:
        del sys.modules[name]


def both(pixels):
    """A model with two outputs: depth is the red channel plus one, labels are the green one."""
    depth = Map(METRIC_DEPTH, pixels[..., 0].astype(np.float32) + 1)
    return Prediction(Size(48, 64), {"d": depth, "s": Map(LABELS, pixels[..., 1].astype(np.uint16), 255)})


@pytest.fixture
def wired(package):
    sent, warned = {}, []
    return (
        import_module("dpt_ros2.relay").Relay(both, ROS2.types, sent.__setitem__, warned.append, buffer=_array),
        sent,
        warned,
    )


def _array(data):
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("make", [image, compressed])
def test_one_node_publishes_depth_labels_and_points_that_can_be_sent(make, wired):
    relay, sent, warned = wired
    relay.on_camera_info(camera_info())
    given = make(photo(), index=3)
    relay.on_image(given)
    assert (set(sent), warned) == ({"depth", "labels", "points"}, [])
    for message in sent.values():
        assert message.header is given.header
        data = ROS2.serialize_cdr(message, message.__msgtype__)  # refuses fields of other types
        again = ROS2.deserialize_cdr(data, message.__msgtype__)
        np.testing.assert_array_equal(again.data, message.data)
    np.testing.assert_array_equal(sent["depth"].data.view("<f4"), photo()[..., 0].ravel() + 1.0)


def test_what_cannot_be_used_is_reported_once_and_the_node_lives_on(wired):
    relay, sent, warned = wired
    for _ in range(3):
        relay.on_image(image(photo()[..., 0], "16SC7"))
    relay.on_camera_info(camera_info(matrix=np.zeros(9)))
    relay.on_image(image(photo()))
    assert ["16SC7" in line for line in warned] == [True, False]
    assert "calibrate the camera" in warned[1]
    assert set(sent) == {"depth", "labels"}


class FakeNode:
    """What the node uses of ``rclpy.node.Node``: it keeps subscriptions and messages."""

    values: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, name):
        self.name, self.calls, self.sent, self.lines = name, {}, [], []

    def declare_parameter(self, name, default):
        self.values = {name: default} | self.values

    def get_parameter(self, name):
        return SimpleNamespace(value=self.values[name])

    def get_logger(self):
        return SimpleNamespace(warning=self.lines.append)

    def create_subscription(self, kind, topic, call, qos):
        self.calls[topic] = call

    def create_publisher(self, kind, topic, qos):
        return SimpleNamespace(publish=lambda message: self.sent.append((topic, message)))

    def destroy_node(self):
        self.calls.clear()


@pytest.fixture
def rclpy(package, monkeypatch):
    modules = {
        name: ModuleType(name) for name in ("rclpy", "rclpy.node", "rclpy.qos", "sensor_msgs", "sensor_msgs.msg")
    }
    modules["rclpy.node"].Node = FakeNode
    modules["rclpy.qos"].qos_profile_sensor_data = SimpleNamespace(depth=5)
    for kind in ("CameraInfo", "CompressedImage", "Image", "PointCloud2", "PointField"):
        setattr(modules["sensor_msgs.msg"], kind, ROS2.types[f"sensor_msgs/msg/{kind}"])
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_the_node_publishes_what_the_model_returns(rclpy, tmp_path, monkeypatch):
    path = depth_artifact(tmp_path, "metric-depth").path
    monkeypatch.setattr(FakeNode, "values", {"model": str(path)})
    node = import_module("dpt_ros2.node").DepthNode()
    assert set(node.calls) == {"camera_info", "image"}
    node.calls["camera_info"](camera_info())
    node.calls["image"](image(photo()))
    assert [topic for topic, _ in node.sent] == ["~/depth", "~/points"]
    with load(path) as model:
        np.testing.assert_array_equal(np.frombuffer(node.sent[0][1].data, "<f4"), model(photo()).depth.ravel())
    node.destroy_node()
