"""Run an artefact over an archive with workers that Ray starts, on one machine or many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.jobs.predict.archive.archive import (
    PARQUET,
    ArchiveSummary,
    LocalFolder,
    default_folder,
    plan_job,
    refuse_overwriting,
    work_off,
)
from dpt_deploy.jobs.predict.archive.listing import list_entries
from dpt_deploy.jobs.predict.archive.worker import ArchiveOptions, describe_model

with extra("ray", purpose="running on a cluster"):
    from dpt_deploy.jobs.batch.ray_engine import RayLimits, connected, in_actors  # isort: skip  (names Ray if missing)
    from dpt_deploy.jobs.batch.parquet import write_parquet
    from dpt_deploy.jobs.batch.remote import RemoteFolder

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging.files import IMAGE_SUFFIXES


def run_batch(
    path: Path | str,
    source: Path | str,
    out: Path | str | None,
    *,
    ray: str,
    workers: int | None = None,
    cpus: int = 1,
    gpus: float | None = None,
    block: int = 16,
    manifest: Path | None = None,
    resume: bool = False,
    shard: str | None = None,
    recursive: bool = False,
    **options: Any,
) -> ArchiveSummary:
    """Run an artefact over an archive, as :func:`~dpt_deploy.jobs.predict.archive.archive.run_archive` does, with Ray.

    The worker is the same, so the results are the same files. Every machine of the cluster needs this package, the
    artefact under the same path, and ``out`` as a folder that all of them see.

    Args:
        path: the artefact.
        source: a folder that all machines see, or a URL that pyarrow or fsspec can read, such as ``s3://bucket/photos``.
        out: folder of the results (default for a folder: ``FOLDER-out``).
        ray: ``local`` starts Ray on this machine; ``auto`` or ``HOST:PORT`` is a cluster that runs.
        workers: largest number of workers; by default as many as the cluster has room for.
        cpus: processors of a worker, which are its threads.
        gpus: GPUs of a worker; by default 1 for an engine, else 0.
        block: images of one task, which is what a killed worker repeats.
        manifest: JSON lines, or Parquet if the name ends with ``.parquet``; the lines then lie next to it.
        resume, shard, recursive, options: as for ``run_archive``.

    Raises:
        MissingExtraError: Ray is not installed.
        BadFileError: the source is missing or holds no image, or the artefact is missing, unfinished or damaged.
        UsageError: an option that the model does not have, or an address that is not understood.
        IncompatibleError: the cluster cannot hold one worker, or a machine has another artefact.
        ResourceError: the cluster does not answer, or a result or the manifest cannot be written.
    """
    model = describe_model(Path(path), ArchiveOptions(**options))
    remote = "://" in str(source)
    if out is None and remote:
        raise UsageError("an archive behind a URL has no folder next to it", hint="name the folder of results with -o")
    if "://" in str(out):
        raise UsageError(f"{out} is a URL; results need a folder that all machines see", hint="mount it, and name it")
    folder = default_folder(Path(source)) if out is None else Path(out)
    if remote:
        place: RemoteFolder | LocalFolder = RemoteFolder(str(source))
        entries = RemoteFolder(str(source)).entries(IMAGE_SUFFIXES, recursive=recursive)
    else:
        place = LocalFolder(Path(source).absolute())
        entries = list_entries(Path(source), IMAGE_SUFFIXES, recursive=recursive, out=folder)
        refuse_overwriting(entries, Path(source), folder)
    table = manifest if manifest and manifest.suffix == PARQUET else None
    lines = table.with_name(f"{table.name}.jsonl") if table else manifest
    job = plan_job(model, place, entries, folder, manifest=lines, shard=shard)
    if gpus is None:
        gpus = 1.0 if model.artifact.sidecar.kind == PLAN else 0.0
    limits = RayLimits(workers=workers, cpus=cpus, gpus=gpus, block=block)
    with connected(ray):
        found = work_off(job, partial(in_actors, limits=limits), resume=resume)
    if table:
        write_parquet(found.manifest, table)
        return replace(found, manifest=table)
    return found
