"""The files that are read, and the files that are written for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import resolved
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging.files import WRITABLE_VIDEO_SUFFIXES
    from dpt_deploy.imaging.formats import FORMATS, OutputFormat

_VIDEO = ".mp4"
_NAMED = 5  # entries of a folder that are named if they are left out


@dataclass(frozen=True)
class Choice:
    """One output in one format: what is written for every input. ``suffix`` follows the stem of the input."""

    output: OutputRecord
    format: OutputFormat
    suffix: str
    video: bool = False


Targets = dict[Path, Choice]  # the files to write for one input


def find_sources(source: Path, suffixes: frozenset[str]) -> list[Path]:
    """The file itself, or the images of a folder in order.

    Raises:
        BadFileError: there is none.
    """
    if not source.exists():
        raise BadFileError(f"{source} does not exist", hint="give an image, a video, or a folder of images")
    if not source.is_dir():
        return [source]
    found = sorted(entry for entry in source.iterdir() if entry.suffix.lower() in suffixes)
    found = [entry for entry in found if not entry.name.startswith(".") and not entry.is_dir()]
    left_out = sorted(entry.name for entry in source.iterdir() if entry not in found)
    if left_out:
        names = ", ".join(left_out[:_NAMED]) + (", ..." if len(left_out) > _NAMED else "")
        say(f"left out of {source}, not an image or a folder of its own: {len(left_out)} entries ({names})")
    if not found:
        raise BadFileError(f"folder {source} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
    return found


def choose_formats(
    sidecar: Sidecar,
    names: tuple[str, ...],
    file: Path | None,
    *,
    video: bool,
    folder: bool = False,
    camera: bool = False,
) -> list[Choice]:
    """The formats to write for each output.

    ``names`` are the formats asked for: each is written for every output that it fits. By default an output is written
    in the formats of its task, and for a single image (no ``folder``) in colours as well, to be looked at. To the one
    ``file``, that is the first whose suffix is the file's, or simply the first. For a video it is the format that makes
    pictures. Files of points need a ``camera``.

    Raises:
        UsageError: a format is unknown, fits no output, or needs a camera that is not given.
    """
    for name in names:
        _check_format(name, sidecar.outputs, video=video)
    chosen = []
    for output in sidecar.outputs:
        fitting = [each for each in FORMATS.values() if each.fits(output.kind) and (each.picture or not video)]
        if names:
            formats = [FORMATS[name] for name in dict.fromkeys(names) if FORMATS[name] in fitting]
        else:
            formats = fitting[:1] if video else _usual(output, file, fitting, folder=folder)
        video_end = [_VIDEO if len(formats) == 1 else f"-{each.name}{_VIDEO}" for each in formats]
        ends = video_end if video else [each.suffix for each in formats]
        several = len(sidecar.outputs) > 1
        chosen += [_choice(output, each, end, several, video) for each, end in zip(formats, ends, strict=True)]
    points = next((each.format.name for each in chosen if each.format.of_points), "")
    if points and not camera:
        raise UsageError(
            f"format {points!r} needs the camera of the image",
            hint="give run --fov DEG (horizontal), --focal PX or --intrinsics FILE; archives have no points",
        )
    return chosen


def _check_format(name: str, outputs: Iterable[OutputRecord], *, video: bool) -> None:
    tasks = [output.kind for output in outputs]
    fitting = [each.name for each in FORMATS.values() if any(map(each.fits, tasks)) and (each.picture or not video)]
    if name in fitting:
        return
    hint = f"choose from {', '.join(fitting)}"
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}", hint=hint)
    if not video and FORMATS[name].unit:
        found = " and ".join(task.quantity or task.name for task in tasks)
        raise UsageError(
            f"format {name!r} needs a model that returns metres, not {found}", hint="use hybrid-kitti or hybrid-nyu"
        )
    what = f"{'a video of ' if video else ''}a model that returns {' and '.join(task.name for task in tasks)}"
    raise UsageError(f"format {name!r} does not fit {what}", hint=hint)


def _usual(output: OutputRecord, file: Path | None, fitting: list[OutputFormat], *, folder: bool) -> list[OutputFormat]:
    formats = [FORMATS[name] for name in output.kind.formats]
    if file is None:
        shown = [] if folder or output.kind.of_classes else [each for each in fitting if each.picture][:1]
        return formats + [each for each in shown if each not in formats]
    ending = file.suffix.lower()
    same = [each for each in formats if each.suffix == ending]
    points = [each for each in fitting if each.of_points and each.suffix == ending]
    return (same or points or formats)[:1]


def _choice(output: OutputRecord, format_: OutputFormat, end: str, several: bool, video: bool) -> Choice:
    """Files of several outputs carry the output's name."""
    return Choice(output, format_, f"-{output.name}{end}" if several else end, video)


def name_targets(
    sources: list[Path], source: Path, out: Path | None, file: Path | None, chosen: list[Choice], tag: str = ""
) -> list[Targets]:
    """The files to write for each input: no two the same, and none of them an input.

    Inputs go into the folder ``out`` under their stem, or under their whole name if two have the same stem. Without
    ``out`` they go next to the input, and those of a folder into ``FOLDER-out``. One choice goes to ``file`` itself,
    several to files of its stem. A ``tag`` follows the stem, as the name of the model does in the original tools.

    Raises:
        UsageError: a file would be written twice or is an input, the suffix of ``file`` does not fit, or ``tag`` can be
            no part of a file name, or comes with a ``file``.
    """
    if tag:
        check_tag(tag, file)
    if file is not None:
        return _checked([_named(file, chosen)], sources)
    if out is None and not source.is_dir():
        bases = [source.with_name(source.stem if tag else f"{source.stem}-out")]
    else:
        named = source if source.name not in ("", "..") else resolved(source)
        folder = out or named.with_name(f"{named.name}-out")
        stems = Counter(item.stem for item in sources)
        bases = [folder / (item.stem if stems[item.stem] == 1 else item.name) for item in sources]
    end = f"-{tag}" if tag else ""
    return _checked(
        [{base.with_name(base.name + end + each.suffix): each for each in chosen} for base in bases], sources
    )


def check_tag(tag: str, file: Path | None) -> None:
    """Raise :class:`UsageError` if ``tag`` can be no part of a file name, or comes with a ``file``."""
    if file is not None:
        raise UsageError(f"--tag {tag} and the file {file} both name the result", hint="leave one of them out")
    if any(character in tag for character in "/\\\0") or not tag.isprintable():
        raise UsageError(f"--tag {tag!r} can be no part of a file name", hint="use letters, digits, - and _")


def _named(file: Path, chosen: list[Choice]) -> Targets:
    if len(chosen) > 1:
        return {file.with_name(file.stem + each.suffix): each for each in chosen}
    (only,) = chosen
    fitting = sorted(WRITABLE_VIDEO_SUFFIXES) if only.video else [Path("x" + only.suffix).suffix]
    if file.suffix.lower() not in fitting:
        name = "video" if only.video else only.format.name
        raise UsageError(
            f"{file} does not fit the format {name!r}; expected the suffix {' or '.join(fitting)}",
            hint="name a file of that kind, or an existing folder",
        )
    return {file: only}


def _checked(targets: list[Targets], sources: list[Path]) -> list[Targets]:
    inputs = set(map(resolved, sources))
    seen: set[Path] = set()
    for path in (path for target in targets for path in target):
        if resolved(path) in inputs:
            raise UsageError(f"{path} is an input; it would be overwritten", hint="name another output with -o")
        if path in seen:
            raise UsageError(f"two inputs would be written to {path}", hint="rename one of them")
        seen.add(path)
    return targets
