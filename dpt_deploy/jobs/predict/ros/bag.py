"""Run an artefact on the camera of a bag, and write another bag. Needs the extra ``ros``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import BadFileError, ParityError, UsageError
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import CANONICAL_DEPTH
from dpt_deploy.jobs.common.runners import default_runtime
from dpt_deploy.jobs.predict.load import opened
from dpt_deploy.jobs.predict.ros.frames import Frames, PinholeCamera, camera_of, published, require_points
from dpt_deploy.jobs.predict.ros.pictures import COMPRESSED, IMAGE
from dpt_deploy.jobs.predict.ros.store import Bag, BagWriter, check_target, opened_bag, written_bag
from dpt_deploy.jobs.predict.rule import with_rule
from dpt_deploy.runtime.predictor import Predictor, focal_length

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_COMPRESSED_END = "/compressed"


@dataclass(frozen=True)
class BagResult:
    """Counts of one run: images answered, images that could not be read, and the topics that were written."""

    written: Path
    images: int
    topics: tuple[str, ...]
    errors: tuple[str, ...] = ()


def run_bag(
    path: Path,
    source: Path,
    out: Path | None,
    *,
    topic: str | None = None,
    camera_info: str | None = None,
    points: bool = False,
    others: str = "copy",
    runtime: str | None = None,
    size: Size | None = None,
    height: int | None = None,
    square: bool = False,
    focal: tuple[float, float] | None = None,
) -> BagResult:
    """Run an artefact on one camera of a bag of ROS 1 or ROS 2, and write a bag of the same kind to ``out``.

    For every image of ``topic`` it has one message for each output, with the stamp and the frame of the image. Depth in
    metres is at ``TOPIC/depth`` (32FC1); depth of another scale has the name of its quantity, such as
    ``TOPIC/inverse_depth``. Labels are at ``TOPIC/labels`` (mono16; 1 is the first class). With ``points``, coloured
    points are at ``TOPIC/points``, from depth in metres and the last camera matrix before the image. ``others`` is
    ``copy`` or ``drop``: the fate of the messages that were read.

    Raises:
        BadFileError: the bag is missing or damaged.
        UsageError: there is no such topic, or the output has the name of another kind of bag, or exists.
        ResourceError: the output cannot be written.
    """
    artifact = open_artifact(path)
    runner = runtime or default_runtime(artifact.sidecar)
    artifact = with_rule(artifact, runner, height=height, square=square, size=size)
    out = out or source.with_name(f"{source.stem}-out{'.bag' if source.suffix == '.bag' else ''}")
    with opened_bag(source) as bag:
        check_target(out, source=source, ros1=bag.ros1)
        topic = _image_topic(bag, topic)
        canonical = any(output.task == CANONICAL_DEPTH.name for output in artifact.sidecar.outputs)
        needed = points or (canonical and focal is None)
        info = _info_topic(bag, topic, camera_info) if needed or camera_info else None
        _check(artifact.sidecar, points=points, camera=info is not None)
        with opened(artifact, runtime=runtime, size=size) as predictor, written_bag(bag, out) as writer:
            run = _Run(bag, writer, predictor, topic, info, focal and tuple(focal_length(focal)), points)
            return run.through(out, others == "copy")


def _check(sidecar: Sidecar, *, points: bool, camera: bool) -> None:
    if sidecar.weights.is_random:
        say(f"weights: {sidecar.weights}")
    if points:
        tasks = [output.kind for output in sidecar.outputs]
        require_points(published(tasks, camera=camera), next((task.quantity for task in tasks if task.quantity), ""))


def _image_topic(bag: Bag, wanted: str | None) -> str:
    found = bag.topics(IMAGE, COMPRESSED)
    hint = f"topics with images: {', '.join(found)}" if found else "this bag holds no images of a camera"
    if wanted is None:
        if len(found) != 1:
            raise UsageError(f"{bag.path} has {len(found)} topics with images; expected --topic", hint=hint)
        return found[0]
    if wanted not in found:
        kinds = {each.msgtype for each in bag.reader.connections if each.topic == wanted}
        what = f"holds {' and '.join(sorted(kinds))}, not images" if kinds else "is not in the bag"
        raise UsageError(f"topic {wanted} {what}: {bag.path}", hint=hint)
    return wanted


def _info_topic(bag: Bag, topic: str, wanted: str | None) -> str | None:
    """The topic of the camera's matrix: the one asked for, or ``camera_info`` next to the images."""
    found = bag.topics(CAMERA_INFO)
    if wanted is not None and wanted not in found:
        raise UsageError(
            f"{bag.path} has no camera_info at {wanted}",
            hint=f"topics of that type: {', '.join(found) or 'none'}",
        )
    sibling = f"{topic.removesuffix(_COMPRESSED_END).rpartition('/')[0]}/camera_info"
    return wanted or (sibling if sibling in found else None)


class _Run:
    """One pass through a bag, in the order of its messages."""

    def __init__(
        self,
        bag: Bag,
        writer: BagWriter,
        predictor: Predictor,
        topic: str,
        info: str | None,
        focal: Any,
        points: bool,
    ) -> None:
        self._bag, self._writer, self._topic, self._info = bag, writer, topic, info
        self._frames = Frames(predictor, bag.types, buffer=_array, focal=focal, points=points)
        self._camera = self._first_camera() if info else None
        self._base = topic.removesuffix(_COMPRESSED_END)

    def through(self, out: Path, copy: bool) -> BagResult:
        """Write everything; images that cannot be read are counted."""
        topics: set[str] = set()
        done, errors = 0, []
        count = sum(each.msgcount for each in self._bag.reader.connections if each.topic == self._topic)
        with progress("images", count) as bar:
            for connection, time, data in self._bag.messages():
                if copy:
                    self._writer.copy(connection, time, data)
                if connection.topic == self._info:
                    self._camera = camera_of(self._bag.message(connection, data), connection.topic)
                if connection.topic != self._topic:
                    continue
                try:
                    topics |= self._answered(connection, time, data)
                    done += 1
                except (BadFileError, ParityError) as exc:
                    errors.append(str(exc))
                bar.advance(item=f"{done} of {count}")
        if not done:
            raise BadFileError(
                f"none of the {count} images of {self._topic} could be processed: {next(iter(errors), 'no messages')}",
                hint="nothing was written; `ros2 bag info` or `rosbag info` shows what the bag holds",
            )
        return BagResult(out, done, tuple(sorted(topics)), tuple(errors))

    def _answered(self, connection: Any, time: int, data: bytes) -> set[str]:
        message = self._bag.message(connection, data)
        made = self._frames.answer(message, self._bag.header(message.header), self._camera, self._topic)
        for name, answer in made.items():
            self._writer.write(f"{self._base}/{name}", time, answer)
        return {f"{self._base}/{name}" for name in made}

    def _first_camera(self) -> PinholeCamera | None:
        """The first matrix of the bag: it holds for images before it."""
        for connection, _, data in self._bag.messages(self._info):
            return camera_of(self._bag.message(connection, data), connection.topic)
        return None


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
