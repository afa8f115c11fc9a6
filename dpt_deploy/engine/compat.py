"""The differences between TensorRT's editions: ``tensorrt`` from 10.12 on, and ``tensorrt_rtx``.

Everything else that this project uses has the same name in all of them. The table below is tested against the real
bindings of four releases and of TensorRT-RTX (``tests/engine/test_compat.py``); its notes are tested by real builds
(``tests/jobs/build/test_build.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import TaskProgress, current_reporter

Version = tuple[int, ...]

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "memoryallocation", "bad_alloc")

OLDEST: Version = (10, 12)  # the first whose strong typing covers every layer of these networks
LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # module to its name, in order of preference


@dataclass(frozen=True)
class Feature:
    """A feature that some editions lack: ``tensorrt`` has it from version ``since`` on (None: never), RTX if ``rtx``.

    ``evidence`` is the name in the bindings that comes with it. It is empty if the name exists but does nothing, or
    fails; ``note`` then describes TensorRT-RTX 1.7.1.
    """

    since: Version | None
    rtx: bool
    evidence: str = ""
    note: str = ""


FEATURES = {
    "fused attention": Feature((10, 14), True, "LayerType.ATTENTION_INPUT"),
    "compute capabilities": Feature(None, True, "IBuilderConfig.set_compute_capability"),
    "timing cache": Feature(OLDEST, False, note="its timing cache is a no-op: nothing is timed at build"),
    "hardware compatibility": Feature(OLDEST, False, note="it ignores the level with a warning"),
    "version compatibility": Feature(OLDEST, False, note="it has no lean runtime"),
    "build without a GPU": Feature(None, True),
    "refit without a GPU": Feature(None, False, note="a refittable build asks for a GPU"),
    "lasting refit": Feature((10, 14), True, "SerializationFlag.INCLUDE_REFIT"),  # of a plan built without weights
}

# The feature that an option of a build needs.
_NEEDED = {
    "compute_capabilities": "compute capabilities",
    "hardware_compatible": "hardware compatibility",
    "version_compatible": "version compatibility",
    "timing_cache": "timing cache",
}


@dataclass(frozen=True)
class Edition:
    """An installed library."""

    module: Any
    library: str
    version: Version

    @property
    def is_rtx(self) -> bool:
        return self.library == "tensorrt_rtx"

    def __str__(self) -> str:
        return f"{LIBRARIES[self.library]} {self.module.__version__}"

    def has(self, feature: str) -> bool:
        """True if this edition has a feature of the table."""
        return has(feature, self.library, self.version)

    def check_option(self, option: str) -> None:
        """Raise :class:`UsageError` if an option of the builder has no effect in this edition."""
        feature = _NEEDED.get(option)
        if feature and not self.has(feature):
            note = FEATURES[feature].note
            raise UsageError(
                f"{self} has no {feature}" + (f": {note}" if self.is_rtx and note else ""),
                hint=f"leave --{option.replace('_', '-')} out",
            )


def has(feature: str, library: str, version: Version) -> bool:
    """True if this version of ``library`` has a feature of the table."""
    entry = FEATURES[feature]
    return entry.rtx if library == "tensorrt_rtx" else entry.since is not None and version >= entry.since


def parse_version(text: str) -> Version:
    """Parse ``"10.14.1.48.post1"`` into (10, 14, 1, 48)."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def load(library: str | None = None) -> Edition:
    """Import a library: the named one, else ``tensorrt``, else ``tensorrt_rtx``.

    Raises:
        MissingExtraError: it is not installed.
        IncompatibleError: it is too old.
    """
    name = library or next((name for name in LIBRARIES if find_spec(name)), "tensorrt_rtx")
    with extra("trt" if name == "tensorrt" else "rtx", purpose="building an engine"):
        module = import_module(name)
    edition = Edition(module, name, parse_version(module.__version__))
    if not edition.is_rtx and edition.version < OLDEST:
        raise IncompatibleError(
            f"{edition} is too old: precision is in the graph, and strong typing is complete from 10.12 on",
            hint="install TensorRT 10.12 or later, or TensorRT-RTX: pip install -e '.[rtx]'",
        )
    return edition


class Messages:
    """The library's errors during a ``with`` block.

    There is one logger per process, because the library keeps the first one it receives. Blocks use it in turn.
    """

    def __init__(self, edition: Edition) -> None:
        self._logger = _logger(edition.library)

    def __enter__(self) -> Messages:
        self._logger.turn.acquire()
        self._logger.errors.clear()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._logger.turn.release()

    @property
    def logger(self) -> Any:
        return self._logger

    @property
    def errors(self) -> list[str]:
        return [_line(text) for text in self._logger.errors]

    @property
    def first(self) -> str:
        """The most informative message: the first error that names an error code."""
        errors = self.errors
        plain = errors[0] if errors else "no reason was given"
        return next((text for text in errors if "Error Code" in text), plain)[:400]

    @property
    def out_of_memory(self) -> bool:
        """True if an error mentions memory."""
        text = " ".join(self.errors).lower()
        return any(sign in text for sign in _OUT_OF_MEMORY)


def _line(text: str) -> str:
    return " ".join(text.split())


@cache
def _logger(library: str) -> Any:
    trt: Any = import_module(library)

    class Logger(trt.ILogger):  # type: ignore[misc]  # its base is known at run time only
        """Keeps errors. A failed build writes hundreds of other messages."""

        def __init__(self) -> None:
            super().__init__()
            self.turn = threading.RLock()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Logger()


class BuildPhases:
    """The phases of one build, each a task of the reporter that was current when the build began.

    The library calls from threads of its own. What the reporter raises (or a Ctrl-C) must not travel through the
    library's code: it ends the build and is kept in ``failure`` for the caller.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._reporter = current_reporter()
        self._open: dict[str, TaskProgress] = {}

    def start(self, name: str, steps: int) -> None:
        """Begin a phase; phases nest."""
        with self._keeping_failure():
            self._open[name] = self._reporter.task(name, steps)

    def step(self, name: str, done: int) -> bool:
        """Report ``done`` steps of a phase; False asks the library to stop."""
        if self.failure is None and name in self._open:
            with self._keeping_failure():
                self._open[name].update(done=done)
        return self.failure is None

    def finish(self, name: str) -> None:
        """End a phase."""
        if name in self._open:
            with self._keeping_failure():
                self._open.pop(name).close()

    def close(self) -> None:
        """End the phases that a cancelled build has left open."""
        for name in list(self._open):
            self.finish(name)

    @contextmanager
    def _keeping_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:  # noqa: BLE001  raised again by the builder
            self.failure = self.failure or exc


def progress_monitor(edition: Edition) -> Any:
    """Return the library's progress monitor, which reports to the :class:`BuildPhases` in its ``phases``."""

    class Monitor(edition.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        """The library's interface over :class:`BuildPhases`."""

        def __init__(self) -> None:
            super().__init__()
            self.phases = BuildPhases()

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self.phases.step(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

    return Monitor()


def as_attention(edition: Edition, layer: Any) -> Any | None:
    """Return the attention that begins with ``layer``, or None. The parser returns plain layers, so cast them."""
    if not edition.has("fused attention") or layer.type != edition.module.LayerType.ATTENTION_INPUT:
        return None
    layer.__class__ = edition.module.IAttentionInputLayer
    return layer.attention
