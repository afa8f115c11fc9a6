"""Work through an archive: find what is left to do, have an engine do it, and record each image in the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.disk.private import HIDDEN, sweep
from dpt_deploy.core.environment import cpu_count
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import check_folder, resolved
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress, say
from dpt_deploy.jobs.common.runners import default_runtime
from dpt_deploy.jobs.predict.archive.listing import (
    ArchiveEntry,
    ArchiveSource,
    Shard,
    list_entries,
    result_base,
    whole_names,
)
from dpt_deploy.jobs.predict.archive.manifest import DONE, FAILED, Manifest, ManifestRow
from dpt_deploy.jobs.predict.archive.worker import (
    ArchiveModel,
    ArchiveOptions,
    ArchiveWorker,
    WorkerSettings,
    describe_model,
)
from dpt_deploy.jobs.predict.images import explain
from dpt_deploy.runtime.registry import find_runtime
from dpt_deploy.runtime.stages import in_parallel

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging import files as images

_STREAMS = 2  # images that the network computes at once; each takes the memory of a run
_MAX_WORKERS = 4
PARQUET = ".parquet"
_SHOWN = 20  # failures that are shown; the manifest has them all


@dataclass(frozen=True)
class ArchiveJob:
    """An archive to work through: its images (of this shard), the worker's settings, and the manifest.

    ``model`` decides the results, ``source`` is where engines read the images from.
    """

    source: ArchiveSource
    entries: Sequence[ArchiveEntry]
    model: ArchiveModel
    settings: WorkerSettings
    manifest: Path


@dataclass(frozen=True)
class ArchiveSummary:
    """Counts of one run: images done now, skipped because they were finished, and failed; and the manifest."""

    done: int
    skipped: int
    failed: int
    manifest: Path

    @property
    def total(self) -> int:
        """All images of the archive, or of its shard."""
        return self.done + self.skipped + self.failed


@dataclass(frozen=True)
class LocalFolder:
    """Images in a folder of this machine, or of one that all machines see."""

    folder: Path

    def read(self, path: str) -> bytes:
        return images.file_bytes(self.folder / path)


Engine = Callable[[ArchiveJob, Sequence[ArchiveEntry]], Generator[ManifestRow]]  # a row for each entry, in any order


def run_archive(
    path: Path | str,
    source: Path | str,
    out: Path | str | None,
    *,
    manifest: Path | None = None,
    resume: bool = False,
    shard: str | None = None,
    recursive: bool = False,
    **options: Any,
) -> ArchiveSummary:
    """Run an artefact over the images of a folder, with a row for each image in a manifest.

    Results go into ``out`` (default: ``FOLDER-out``) under the relative paths of their images. ``resume`` skips the
    images that an earlier run finished with the same model and options, and that have not changed since; the size and
    the time of change of a file decide that, or its hash if only its time differs. Images that failed are tried again.
    ``shard`` is the part I/N of the images to work on. ``options`` are those of :class:`ArchiveOptions`.

    Raises:
        BadFileError: the source is missing or holds no image, or the artefact is missing, unfinished or damaged.
        UsageError: an option that the model does not have, a result that would overwrite an image, or a manifest that
            exists without ``resume``.
        ResourceError: a result or the manifest cannot be written.
    """
    source = Path(source)
    if manifest is not None and manifest.suffix == PARQUET:
        raise UsageError(f"{manifest} is named like Parquet; run writes JSON lines", hint="name it .jsonl")
    model = describe_model(Path(path), ArchiveOptions(**options))
    out = default_folder(source) if out is None else Path(out)
    entries = list_entries(source, images.IMAGE_SUFFIXES, recursive=recursive, out=out)
    refuse_overwriting(entries, source, out)
    job = plan_job(model, LocalFolder(source.absolute()), entries, out, manifest=manifest, shard=shard)
    return work_off(job, in_threads, resume=resume)


def default_folder(source: Path) -> Path:
    """The folder of results if none is named, next to the archive."""
    named = source if source.name not in ("", "..") else resolved(source)
    return named.with_name(f"{named.name}-out")


def refuse_overwriting(entries: Sequence[ArchiveEntry], source: Path, out: Path) -> None:
    """Raise :class:`UsageError` if results could replace images, or be read as images by the next run."""
    there, here = resolved(source), resolved(out)
    if there == here:
        raise UsageError(f"{out} holds the images; results need a folder of their own", hint="name another with -o")
    if here not in there.parents:
        return
    inside = f"{there.relative_to(here).as_posix()}/"
    if any(entry.path.startswith(inside) for entry in entries):
        raise UsageError(
            f"results in {out} could overwrite images of {source}", hint="name another folder with -o, next to it"
        )


def plan_job(
    model: ArchiveModel,
    source: ArchiveSource,
    entries: Sequence[ArchiveEntry],
    out: Path,
    *,
    manifest: Path | None,
    shard: str | None,
) -> ArchiveJob:
    """Name the results of all images, then choose those of the shard, so that every shard uses the same names.

    Raises:
        UsageError: the shard is not understood.
        ResourceError: the folder of results cannot be written.
    """
    part = Shard.parse(shard) if shard else None
    check_folder(out)
    whole = whole_names(entries, list(model.suffixes))
    if part:
        entries = [entry for entry in entries if part.holds(entry.path)]
        say(f"shard {part}: {len(entries)} images")
    if manifest is None:
        manifest = out / (f"manifest-{part.index}-of-{part.count}.jsonl" if part else "manifest.jsonl")
    settings = WorkerSettings(model.artifact.path.absolute(), out.absolute(), model.options, whole, model.fingerprint)
    return ArchiveJob(source, entries, model, settings, manifest)


def work_off(job: ArchiveJob, engine: Engine, *, resume: bool) -> ArchiveSummary:
    """Have an engine do what the manifest lacks, and add a row for each image as soon as it is done.

    Raises:
        UsageError, BadFileError: the manifest cannot be used (:class:`Manifest`).
        ResourceError: a result or the manifest cannot be written.
    """
    sidecar = job.model.artifact.sidecar
    if sidecar.weights.is_random:
        say(f"weights: {sidecar.weights}")
    explain({choice.output.name: choice.output for choice in job.model.choices}.values())
    counts = {DONE: 0, FAILED: 0}
    with Manifest(job.manifest, resume=resume) as manifest:
        todo = [entry for entry in job.entries if not _finished(job, entry, manifest.rows.get(entry.path))]
        skipped = len(job.entries) - len(todo)
        if skipped:
            say(f"{skipped} of {len(job.entries)} images are finished")
        with progress("images", len(todo)) as images_done, closing(engine(job, todo)) as rows:
            for row in rows:
                manifest.add(row)
                counts[row.status] += 1
                if row.status == FAILED and counts[FAILED] <= _SHOWN:
                    say(f"failed: {row.message}")
                images_done.advance(item=row.path)
    for folder in {(job.settings.out / entry.path).parent for entry in todo}:
        sweep(folder, HIDDEN)  # of killed workers
    return ArchiveSummary(counts[DONE], skipped, counts[FAILED], job.manifest)


def _finished(job: ArchiveJob, entry: ArchiveEntry, row: ManifestRow | None) -> bool:
    """True if a row says that the image is done as this job would do it, and nothing has changed since."""
    if row is None or row.status != DONE or row.fingerprint != job.model.fingerprint:
        return False
    base = result_base(entry.path, job.settings.whole)
    if set(row.outputs) != {base + suffix for suffix in job.model.suffixes} or entry.size_bytes != row.size_bytes:
        return False
    if not all(_has_size(job.settings.out / name, size) for name, size in row.outputs.items()):
        return False
    return entry.modified == row.modified or _same_bytes(job.source, row)


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _same_bytes(source: ArchiveSource, row: ManifestRow) -> bool:
    try:
        return hashlib.sha256(source.read(row.path)).hexdigest() == row.sha256
    except BadFileError:
        return False


def in_threads(job: ArchiveJob, entries: Sequence[ArchiveEntry]) -> Generator[ManifestRow]:
    """Do the work in this process: images are read ahead and written behind while the network computes others."""
    if not entries:
        return
    runtime = job.settings.options.runtime or default_runtime(job.model.artifact.sidecar)
    streams = min(_STREAMS, cpu_count()) if find_runtime(runtime).divisible and len(entries) > 1 else 1
    with ArchiveWorker(replace(job.settings, streams=streams)) as worker:

        def work(entry: ArchiveEntry) -> ManifestRow:
            try:
                data = job.source.read(entry.path)
            except BadFileError as exc:
                return worker.failed(entry, str(exc))
            return worker(entry, data)

        if worker.overlaps:
            yield from map(work, entries)
            return
        workers = min(max(2, cpu_count()) + 1, _MAX_WORKERS)
        with closing(in_parallel(entries, work, workers=workers)) as futures:
            for future in futures:
                yield future.result()
