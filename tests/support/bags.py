"""Bags of a small camera, written by ``rosbags``: colour images, the matrix of the camera, and a topic of text."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

HEIGHT, WIDTH = 48, 64
ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
TOPIC, INFO, TEXT = "/camera/image_raw", "/camera/camera_info", "/chatter"
MATRIX = np.array([50.0, 0, 31.5, 0, 52, 23.5, 0, 0, 1])


def photo(index: int = 0) -> np.ndarray:
    """A smooth RGB image, another one for each index."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([3 * rows + 20, 3 * columns + 10 * index, 100 + rows + columns], 2).astype(np.uint8)


def header(store, index, frame="camera_optical"):
    time = store.types["builtin_interfaces/msg/Time"](sec=100 + index, nanosec=7000 + index)
    count = {"seq": index} if store is ROS1 else {}
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame, **count)


def image(pixels, encoding="rgb8", *, store=ROS2, index=0, padding=0, big=0):
    """A message with the samples ``pixels`` as they are; ``padding`` bytes follow each row."""
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return store.types["sensor_msgs/msg/Image"](
        header=header(store, index),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=big,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(pixels, *, store=ROS2, index=0):
    data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].reshape(-1)
    kind = store.types["sensor_msgs/msg/CompressedImage"]
    return kind(header=header(store, index), format="rgb8; png compressed bgr8", data=data)


def camera_info(*, store=ROS2, matrix=MATRIX, size=(HEIGHT, WIDTH)):
    region = store.types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    letters = "DKRP" if store is ROS1 else "dkrp"
    values = dict(zip(letters, (np.zeros(5), matrix, np.eye(3).ravel(), np.zeros(12)), strict=True))
    return store.types["sensor_msgs/msg/CameraInfo"](
        header=header(store, 0),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        binning_x=0,
        binning_y=0,
        roi=region,
        **values,
    )


def write_bag(path: Path, messages, *, mcap: bool = False) -> Path:
    """A bag of ROS 1 (``.bag``) or ROS 2 from pairs of topic and message, a second apart."""
    ros1 = path.suffix == ".bag"
    store = ROS1 if ros1 else ROS2
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    with Writer1(path) if ros1 else Writer2(path, version=8, storage_plugin=plugin) as writer:
        topics = {}
        for index, (topic, message) in enumerate(messages):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            write = store.serialize_ros1 if ros1 else store.serialize_cdr
            writer.write(topics[topic], 10**9 * (index + 1), write(message, message.__msgtype__))
    return path


def drive(path: Path, frames: int = 2, *, small: bool = False, mcap: bool = False) -> Path:
    """A text, the matrix of the camera, and then images; ``small`` makes them compressed."""
    store = ROS1 if path.suffix == ".bag" else ROS2
    text = store.types["std_msgs/msg/String"](data="hello")
    make, topic = (compressed, f"{TOPIC}/compressed") if small else (image, TOPIC)
    images = [(topic, make(photo(index), store=store, index=index)) for index in range(frames)]
    return write_bag(path, [(TEXT, text), (INFO, camera_info(store=store)), *images], mcap=mcap)
