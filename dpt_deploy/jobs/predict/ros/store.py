"""Bags of ROS 1 and ROS 2, read and written through ``rosbags``; nothing of ROS need be installed."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import ensure_folder, write_errors
from dpt_deploy.core.optional import extra

with extra("ros", purpose="reading and writing bags"):
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.rosbag1 import ReaderError as ReaderError1
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import ReaderError as ReaderError2
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

_VERSION = 8  # of the metadata: the earliest that rosbags writes, which ROS 2 from Humble on reads
_READ_ERRORS = (
    AnyReaderError,
    ReaderError1,
    ReaderError2,
    sqlite3.Error,
    OSError,
    ValueError,
    KeyError,
    AssertionError,
    struct.error,
    OverflowError,  # these two: of a length that a damaged file states
    MemoryError,
)


def _said(exc: Exception) -> str:
    return str(exc) or type(exc).__name__


@dataclass
class Bag:
    """An open bag. ``types`` has the classes of its messages by their names in ROS 2."""

    path: Path
    reader: Any
    ros1: bool
    store: Any = field(init=False)

    def __post_init__(self) -> None:
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_HUMBLE)

    @property
    def types(self) -> dict[str, Any]:
        """Message classes for what is written."""
        found: dict[str, Any] = self.store.types
        return found

    def topics(self, *kinds: str) -> list[str]:
        """The topics whose messages are of these types, in order."""
        return sorted({each.topic for each in self.reader.connections if each.msgtype in kinds})

    def header(self, given: Any) -> Any:
        """A new header with the stamp and the frame of a message of this bag."""
        time = self.types["builtin_interfaces/msg/Time"](sec=given.stamp.sec, nanosec=given.stamp.nanosec)
        count = {"seq": given.seq} if self.ros1 else {}
        return self.types["std_msgs/msg/Header"](stamp=time, frame_id=given.frame_id, **count)

    def messages(self, topic: str | None = None) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, time and bytes of every message (of ``topic``), in the order of time.

        Raises:
            BadFileError: the file is damaged.
        """
        wanted = [each for each in self.reader.connections if topic in (None, each.topic)]
        messages = self.reader.messages(connections=wanted)
        while True:
            try:
                found = next(messages, None)
            except _READ_ERRORS as exc:
                raise BadFileError(
                    f"{self.path} is damaged: {_said(exc)}",
                    hint="record or copy it again; `ros2 bag reindex` may repair it",
                ) from exc
            if found is None:
                return
            yield found

    def message(self, connection: Any, data: bytes) -> Any:
        """A message as an object.

        Raises:
            BadFileError: its bytes are not those of its type.
        """
        try:
            return self.reader.deserialize(data, connection.msgtype)
        except (*_READ_ERRORS, IndexError, TypeError, RuntimeError) as exc:
            raise BadFileError(
                f"a message of {connection.topic} in {self.path} cannot be read as {connection.msgtype}: {_said(exc)}",
                hint="the bag is damaged: record or copy it again",
            ) from exc

    def serialized(self, message: Any) -> bytes:
        """The bytes of a message, in the form of this bag's kind."""
        write = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        return bytes(write(message, message.__msgtype__))


@contextmanager
def opened_bag(path: Path) -> Iterator[Bag]:
    """Open a bag for reading inside the block.

    Raises:
        BadFileError: it is missing, damaged, or of another kind.
    """
    if not path.exists():
        raise BadFileError(f"{path} does not exist", hint="give a .bag file, or the folder of a ROS 2 bag")
    ros1 = path.suffix.lower() == ".bag"
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE))
        reader.open()
    except _READ_ERRORS as exc:
        raise BadFileError(
            f"{path} cannot be opened as a bag: {_said(exc)}",
            hint="expected a ROS 1 .bag, a ROS 2 folder with metadata.yaml, or one .db3 or .mcap file; a bag that was "
            "not closed is repaired by `rosbag reindex` or `ros2 bag reindex`",
        ) from exc
    try:
        yield Bag(path, reader, ros1)
    finally:
        reader.close()


def check_target(out: Path, *, source: Path, ros1: bool) -> None:
    """Refuse a name that does not fit the kind of bag, or that is taken.

    Raises:
        UsageError: either.
    """
    kind, form = ("ROS 1", "a file that ends with .bag") if ros1 else ("ROS 2", "a folder, without a suffix")
    if (out.suffix.lower() == ".bag") != ros1 or out.suffix.lower() in (".db3", ".mcap"):
        raise UsageError(
            f"{source} is a bag of {kind}; {out} has the name of another kind",
            hint=f"name {form}; rosbags-convert turns one kind into the other",
        )
    if out.exists():
        raise UsageError(f"{out} exists; a bag is not written over", hint="name another one, or remove it first")


class BagWriter:
    """Writes messages into a bag of the kind of another."""

    def __init__(self, bag: Bag, writer: Any) -> None:
        self._bag, self._writer = bag, writer
        self._copied: dict[tuple[str, int], Any] = {}
        self._made: dict[str, Any] = {}

    def copy(self, connection: Any, time: int, data: bytes) -> None:
        """Write a message as it was read, with the definition and the settings of its topic."""
        key = (connection.topic, connection.id if self._bag.ros1 else 0)  # ROS 1 has one for each publisher
        if key not in self._copied:
            self._copied[key] = self._writer.add_connection(
                connection.topic, connection.msgtype, **self._types(connection), **self._settings(connection)
            )
        self._writer.write(self._copied[key], time, data)

    def _types(self, connection: Any) -> dict[str, Any]:
        """The definition as it was read; where a file lacks it, or has it as IDL, the one that was used to read it."""
        if connection.digest and connection.msgdef.format == MessageDefinitionFormat.MSG:
            return {"msgdef": connection.msgdef.data, "md5sum" if self._bag.ros1 else "rihs01": connection.digest}
        return {"typestore": self._bag.reader.typestore}

    def _settings(self, connection: Any) -> dict[str, Any]:
        found: dict[str, Any] = connection.ext._asdict()
        return found

    def write(self, topic: str, time: int, message: Any) -> None:
        """Write a message that was made here."""
        if topic not in self._made:
            self._made[topic] = self._writer.add_connection(topic, message.__msgtype__, typestore=self._bag.store)
        self._writer.write(self._made[topic], time, self._bag.serialized(message))


@contextmanager
def written_bag(bag: Bag, out: Path) -> Iterator[BagWriter]:
    """Write ``out`` inside the block: it is there, whole, when the block ends, and absent if it raises.

    Raises:
        ResourceError: it cannot be written.
    """
    ensure_folder(out.parent)
    with scratch_folder(out.parent) as folder, write_errors(out):
        staged = folder / out.name
        with Writer1(staged) if bag.ros1 else _writer2(bag, staged) as writer:
            yield BagWriter(bag, writer)
        os.replace(staged, out)  # noqa: PTH105


def _writer2(bag: Bag, path: Path) -> Any:
    mcap = bag.path.suffix.lower() == ".mcap" or (bag.path.is_dir() and any(bag.path.glob("*.mcap*")))
    return Writer2(path, version=_VERSION, storage_plugin=StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3)
