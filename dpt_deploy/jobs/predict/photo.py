"""The steps from a photograph's file to its depth map, each as a call to time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.predictor import Predictor

STEPS = ("decode", "prepare", "model", "finish")  # in order; the model is timed as a candidate anyway
SHIPPED = "coffee.jpg"


def photograph(path: Path | None, *, leave_out: bool = False) -> AbstractContextManager[Path | None]:
    """The photograph to time: ``path``, or else the package's own; None, with a message, if no reader is installed.

    Raises:
        UsageError: ``path`` together with ``leave_out``.
    """
    if path and leave_out:
        raise UsageError("--photo and --no-photo exclude each other", hint="leave one of them out")
    if path or leave_out:
        return nullcontext(path)
    if not all(find_spec(name) for name in ("cv2", "PIL")):
        say("the steps around the model are not timed: no image reader is installed (pip install -e '.[images]')")
        return nullcontext()
    return as_file(files("dpt_deploy") / "data" / "photographs" / SHIPPED)


def steps_around(artifact: Artifact, size: Size, photograph: Path, outputs: Tensors) -> dict[str, TimedCall]:
    """Every step of :meth:`Predictor.predict` except the model, preceded by reading the file.

    ``outputs`` are the model's at ``size`` for one image; the last step brings them to the photograph's size.

    Raises:
        BadFileError: the photograph cannot be read.
        MissingExtraError: the modules that read it are not installed.
    """
    read_image = load_attribute("dpt_deploy.imaging.files:read_image", which="images", purpose="reading a photograph")
    image = read_image(photograph)
    height, width = image.shape[:2]
    predictor = Predictor(open_runner(artifact.path), artifact.sidecar, size=size)  # not entered: it computes nothing
    calls = {
        "decode": lambda: read_image(photograph),
        "prepare": lambda: predictor.prepare(image),
        "finish": lambda: predictor.finish(outputs, height, width),
    }
    return {name: TimedCall(call, lambda: None) for name, call in calls.items()}
