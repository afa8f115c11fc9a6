"""The node ``depth``: subscribes to a camera, publishes maps. Experimental: not yet run under ROS 2."""

from __future__ import annotations

from array import array
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

import dpt_deploy
from dpt_deploy.core.errors import DptError
from dpt_ros2.relay import Relay

TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    "sensor_msgs/msg/PointField": PointField,
}


class DepthNode(Node):  # type: ignore[misc]
    """Parameters: ``model`` (path), ``runtime``, ``size`` (HxW), ``focal`` (pixels), ``points``, ``compressed``.

    The queues hold one message. While the network computes, newer images replace older ones.
    """

    def __init__(self) -> None:
        super().__init__("depth")
        defaults = {"model": "", "runtime": "", "size": "", "focal": 0.0, "points": True, "compressed": False}
        for name, default in defaults.items():
            self.declare_parameter(name, default)
        focal = self._value("focal")
        self._model = dpt_deploy.load(
            self._value("model"), runtime=self._value("runtime") or None, size=self._value("size") or None
        )
        self._sent: dict[str, Any] = {}
        relay = Relay(
            self._model,
            TYPES,
            self._send,
            self.get_logger().warning,
            buffer=lambda data: array("B", data),
            focal=(focal, focal) if focal else None,
            points=self._value("points"),
        )
        latest = qos_profile_sensor_data
        latest.depth = 1
        self.create_subscription(CameraInfo, "camera_info", relay.on_camera_info, latest)
        if self._value("compressed"):
            self.create_subscription(CompressedImage, "image/compressed", relay.on_image, latest)
        else:
            self.create_subscription(Image, "image", relay.on_image, latest)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _send(self, name: str, message: Any) -> None:
        if name not in self._sent:
            self._sent[name] = self.create_publisher(type(message), f"~/{name}", qos_profile_sensor_data)
        self._sent[name].publish(message)

    def destroy_node(self) -> None:
        """Release the model with the node."""
        self._model.close()
        super().destroy_node()


def main() -> None:
    """Run the node until it is stopped."""
    rclpy.init()
    try:
        node = DepthNode()
    except DptError as exc:
        rclpy.shutdown()
        raise SystemExit(f"depth: {exc}\n{exc.hint}") from exc
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
