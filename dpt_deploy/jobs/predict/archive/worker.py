"""The worker of an archive: loads a model once, then turns the bytes of an image into files and a row of the manifest.

It knows no engine. A thread pool, a Ray actor or anything else that can pickle it calls it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.runners import default_runtime
from dpt_deploy.jobs.predict.archive.listing import ArchiveEntry, result_base
from dpt_deploy.jobs.predict.archive.manifest import DONE, FAILED, ManifestRow
from dpt_deploy.jobs.predict.images import ImageWriter, in_metres
from dpt_deploy.jobs.predict.load import opened
from dpt_deploy.jobs.predict.rule import with_rule
from dpt_deploy.jobs.predict.targets import Choice, Targets, check_tag, choose_formats
from dpt_deploy.runtime.predictor import focal_length

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging import files as images


@dataclass(frozen=True)
class ArchiveOptions:
    """The options of ``run`` that an archive takes; :func:`~dpt_deploy.jobs.predict.files.run_files` explains them."""

    runtime: str | None = None
    size: Size | None = None
    formats: tuple[str, ...] = ()
    kitti_crop: bool = False
    device_imaging: bool = False
    height: int | None = None
    square: bool = False
    tag: str = ""
    focal: tuple[float, float] | None = None

    def given(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON can hold them."""
        defaults = asdict(ArchiveOptions())
        found = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return found | ({"size": str(self.size)} if self.size else {})


@dataclass(frozen=True)
class ArchiveModel:
    """A model and what is written of it: the part of a worker that is decided before anything is loaded.

    ``artifact`` has the image rule that the options ask for.
    """

    artifact: Artifact
    options: ArchiveOptions
    choices: tuple[Choice, ...]

    @cached_property
    def artefact(self) -> str:
        """SHA-256 of the model's main file."""
        payloads = {payload.name: payload.sha256 for payload in self.artifact.sidecar.payloads}
        return payloads[self.artifact.path.name]

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The options as a row has them."""
        runtime = self.options.runtime or default_runtime(self.artifact.sidecar)
        formats = sorted({choice.format.name for choice in self.choices})
        return {**self.options.given(), "runtime": runtime, "formats": formats}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything but the image that decides the results."""
        sidecar = self.artifact.sidecar
        facts = {
            "payloads": sorted(each.sha256 for each in sidecar.payloads if each.name != sidecar.golden),
            "image": asdict(sidecar.image),
            "model": asdict(sidecar.model),
            "outputs": [asdict(output) for output in sidecar.outputs],
            "suffixes": list(self.suffixes),
            "options": self.record,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]

    @cached_property
    def suffixes(self) -> Mapping[str, Choice]:
        """Endings that follow the base of an image's name in its results."""
        tag = f"-{self.options.tag}" if self.options.tag else ""
        return {tag + choice.suffix: choice for choice in self.choices}


def describe_model(path: Path, options: ArchiveOptions) -> ArchiveModel:
    """Open an artefact and choose what is written of it.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        UsageError: an option does not fit it.
    """
    artifact = open_artifact(path)
    runtime = options.runtime or default_runtime(artifact.sidecar)
    artifact = with_rule(artifact, runtime, height=options.height, square=options.square, size=options.size)
    described = artifact.sidecar
    if options.focal is not None:
        options = replace(options, focal=focal_length(options.focal))
        described = replace(described, outputs=in_metres(described.outputs))
    if options.tag:
        check_tag(options.tag, None)
    return ArchiveModel(
        artifact, options, tuple(choose_formats(described, options.formats, None, video=False, folder=True))
    )


@dataclass(frozen=True)
class WorkerSettings:
    """Everything that a worker is made from; small, and picklable.

    ``fingerprint`` is that of the model which is expected; empty if any is fine. ``whole`` are the images whose results
    carry their whole name. ``streams`` is the number of threads that will call the worker at once, ``threads`` bounds
    the CPU threads of one operator.
    """

    artifact: Path
    out: Path
    options: ArchiveOptions = field(default_factory=ArchiveOptions)
    whole: frozenset[str] = frozenset()
    fingerprint: str = ""
    streams: int = 1
    threads: int | None = None


class ArchiveWorker:
    """Turns images into files under ``out``, and rows. Close it with :meth:`close`, or use it in a ``with`` block.

    The name of a result depends on the image's path alone, and every file is written whole. So it does no harm if an
    image is done twice, even by two workers at once. Pickling keeps the settings; the copy loads the model again.

    Raises:
        BadFileError, UsageError, MissingExtraError, IncompatibleError: as :func:`~dpt_deploy.load`; IncompatibleError
            also if the model is not the expected one.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._model = describe_model(settings.artifact, settings.options)
        if settings.fingerprint not in ("", self._model.fingerprint):
            raise IncompatibleError(
                f"{settings.artifact} is not the model that this run began with",
                hint="every machine needs the same file and the same version of dpt-deploy",
            )
        options = self._model.options
        with ExitStack() as stack:
            predictor = stack.enter_context(
                opened(
                    self._model.artifact,
                    runtime=options.runtime,
                    size=options.size,
                    threads=settings.threads,
                    device_imaging=options.device_imaging,
                    streams=settings.streams,
                )
            )
            self._stack = stack.pop_all()
        self.overlaps = predictor.overlaps
        self._writer = ImageWriter(predictor, options.kitti_crop, options.focal)

    def __call__(self, entry: ArchiveEntry, data: bytes) -> ManifestRow:
        """Write the results of one image, given the bytes of its file; an image that cannot be used is a failed row.

        Raises:
            ResourceError: a result cannot be written, or memory ran out. Every other image would meet that as well.
        """
        digest = hashlib.sha256(data).hexdigest()
        targets = self._targets(entry.path)
        try:
            self._writer.write(images.decode_image(Path(entry.path), data), targets)
        except (BadFileError, UsageError, ParityError) as exc:
            return self.failed(entry, str(exc), digest)
        written = {path.relative_to(self._settings.out).as_posix(): path.stat().st_size for path in targets}
        return self._row(entry, DONE, "", digest, written)

    def failed(self, entry: ArchiveEntry, message: str, sha256: str = "") -> ManifestRow:
        """The row of an image of which nothing was written."""
        text = message if entry.path.rpartition("/")[2] in message else f"{entry.path}: {message}"
        return self._row(entry, FAILED, text, sha256, {})

    def _row(self, entry: ArchiveEntry, status: Any, message: str, sha256: str, outputs: dict[str, int]) -> ManifestRow:
        model = self._model
        return ManifestRow(
            entry.path,
            entry.size_bytes,
            entry.modified,
            sha256,
            status,
            message,
            model.artefact,
            model.record,
            model.fingerprint,
            outputs,
        )

    def _targets(self, path: str) -> Targets:
        base = result_base(path, self._settings.whole)
        return {self._settings.out / (base + suffix): choice for suffix, choice in self._model.suffixes.items()}

    def close(self) -> None:
        """Release the runtime; a second call does nothing."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ArchiveWorker, (self._settings,)
