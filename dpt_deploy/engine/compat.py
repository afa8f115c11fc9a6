"""The differences between TensorRT's editions: ``tensorrt`` from 10.12 on, and ``tensorrt_rtx``.

Everything else that this project uses has the same name in all of them. The table below is tested against the real
bindings of four releases and of TensorRT-RTX (``tests/engine/test_compat.py``); its notes are tested by real builds
(``tests/jobs/build/test_build.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dpt_deploy.core.environment import LIBRARIES
from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.optional import extra

Version = tuple[int, ...]

OLDEST: Version = (10, 12)  # the first whose strong typing covers every layer of these networks


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


def as_attention(edition: Edition, layer: Any) -> Any | None:
    """Return the attention that begins with ``layer``, or None. The parser returns plain layers, so cast them."""
    if not edition.has("fused attention") or layer.type != edition.module.LayerType.ATTENTION_INPUT:
        return None
    layer.__class__ = edition.module.IAttentionInputLayer
    return layer.attention
