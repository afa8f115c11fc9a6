"""Which files are read, and which are written in which format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import BadFileError, UsageError

OutputFormat = Literal["png", "pfm", "color", "metric", "labels", "overlay"]


DEPTH_FORMATS = ("png", "pfm", "color", "metric")


SEGMENTATION_FORMATS = ("labels", "overlay")


def find_sources(source: Path, suffixes: frozenset[str]) -> list[Path]:
    """The file itself, or the images of a folder in order; raises :class:`BadFileError` if there are none."""
    if not source.exists():
        raise BadFileError(f"{source} does not exist", hint="give an image, a video, or a folder of images")
    if not source.is_dir():
        return [source]
    found = sorted(entry for entry in source.iterdir() if entry.suffix.lower() in suffixes)
    found = [entry for entry in found if not entry.name.startswith(".") and not entry.is_dir()]
    if not found:
        raise BadFileError(f"folder {source} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
    return found


def choose_formats(artifact: Artifact, formats: tuple[str, ...], file: Path | None, *, video: bool) -> tuple[str, ...]:
    """The output formats to write; raises :class:`UsageError` for one that the model does not have."""
    model = artifact.sidecar.model
    allowed: tuple[str, ...] = DEPTH_FORMATS if model.task == "depth" else SEGMENTATION_FORMATS
    if video:
        allowed = ("color",) if model.task == "depth" else ("overlay",)
    for name in formats:
        if name not in allowed:
            what = f"a video of a {model.task} model" if video else f"a {model.task} model"
            raise UsageError(f"format {name!r} does not fit {what}", hint=f"choose from {', '.join(allowed)}")
        if name == "metric" and model.metric is None:
            raise UsageError("format 'metric' needs a model that returns metres", hint="use hybrid-kitti or hybrid-nyu")
    if video:
        return ("video",)
    if formats:
        return tuple(dict.fromkeys(formats))
    if model.task == "segmentation":
        return ("labels",)
    if file is None:
        return ("png", "pfm")
    return ("pfm",) if file.suffix.lower() == ".pfm" else ("png",)


def name_targets(
    sources: list[Path], source: Path, out: Path | None, file: Path | None, formats: tuple[str, ...]
) -> list[dict[str, Path]]:
    """For each input the file to write in each format: no two the same, and none of them an input.

    Inputs go into the folder ``out`` under their stem, or under their whole name where two have the same stem. Without
    ``out``: beside the input, or a folder's into ``FOLDER-out``.
    """
    if file is not None:
        return _checked([_named(file, formats)], sources)
    if out is None and not source.is_dir():
        bases = [source.with_name(f"{source.stem}-out")]
    else:
        named = source if source.name not in ("", "..") else source.resolve()
        folder = out or named.with_name(f"{named.name}-out")
        stems = Counter(item.stem for item in sources)
        bases = [folder / (item.stem if stems[item.stem] == 1 else item.name) for item in sources]
    return _checked(
        [{name: base.with_name(base.name + _SUFFIXES[name]) for name in formats} for base in bases], sources
    )


def _named(file: Path, formats: tuple[str, ...]) -> dict[str, Path]:
    """One format goes to ``file`` itself, several to files of its stem."""
    from dpt_deploy.imaging.files import VIDEO_SUFFIXES

    if len(formats) > 1:
        return {name: file.with_name(file.stem + _SUFFIXES[name]) for name in formats}
    (name,) = formats
    fitting = sorted(VIDEO_SUFFIXES) if name == "video" else [Path("x" + _SUFFIXES[name]).suffix]
    if file.suffix.lower() not in fitting:
        raise UsageError(
            f"{file} does not fit the format {name!r}; expected the suffix {' or '.join(fitting)}",
            hint="name a file of that kind, or an existing folder",
        )
    return {name: file}


def _checked(targets: list[dict[str, Path]], sources: list[Path]) -> list[dict[str, Path]]:
    inputs = {item.resolve() for item in sources}
    seen: set[Path] = set()
    for path in (path for target in targets for path in target.values()):
        if path.resolve() in inputs:
            raise UsageError(f"{path} is an input; it would be overwritten", hint="name another output with -o")
        if path in seen:
            raise UsageError(f"two inputs would be written to {path}", hint="rename one of them")
        seen.add(path)
    return targets


_SUFFIXES = {
    "png": ".png",
    "pfm": ".pfm",
    "color": "-color.png",
    "metric": "-metric.png",
    "labels": "-labels.png",
    "overlay": "-overlay.png",
    "video": ".mp4",
}
