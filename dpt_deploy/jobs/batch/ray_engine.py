"""The engine over Ray Data: tasks read bytes, actors hold a worker each, rows come back as they are done.

Ray carries bytes and rows only; images are decoded, and maps written, inside an actor. Ray repeats the tasks of a
killed actor or a lost machine. That does no harm, because a result's name depends on its image alone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from dpt_deploy.core import errors
from dpt_deploy.core.environment import cpu_count
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.predict.archive.archive import ArchiveJob
from dpt_deploy.jobs.predict.archive.listing import ArchiveEntry, ArchiveSource
from dpt_deploy.jobs.predict.archive.manifest import ManifestRow
from dpt_deploy.jobs.predict.archive.worker import ArchiveWorker, WorkerSettings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
with extra("ray", purpose="running on a cluster"):
    import pyarrow as pa
    import ray
    import ray.data
    import ray.exceptions

_READ_CPUS = 0.1  # of a task that waits for files; what a worker leaves of its processors
_READS = 8  # files that one task waits for at once; more tasks would be more processes
_MAX_BLOCKS = 10_000  # Ray keeps a record of each
_ANSWERS_S = 5.0
_LINE = pa.schema([("entry", pa.string()), ("bytes", pa.large_binary()), ("message", pa.string())])
_ROW = pa.schema([("row", pa.string()), ("error", pa.string()), ("hint", pa.string())])


@dataclass(frozen=True)
class RayLimits:
    """Resources of the workers; :func:`~dpt_deploy.jobs.batch.batch.run_batch` explains them."""

    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    block: int = 16


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be the driver of a cluster inside the block; ``local`` starts one of this machine's processors, and ends it.

    A process that is a driver already stays one.

    Raises:
        UsageError: the address is not understood.
        ResourceError: nothing answers there, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    where: dict[str, Any] = {"address": address}
    if address == "local":
        where |= {"num_cpus": cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    elif address != "auto":
        _check_answers(address)
    try:
        ray.init(**where, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as exc:
        raise ResourceError(
            f"no Ray cluster at {address!r}: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}",
            hint="start one (ray start --head), give HOST:PORT of its head, or use --ray local",
        ) from exc
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Try the port first: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"the address {address!r} is not understood; expected local, auto or HOST:PORT",
            hint="the port of a head is 6379 if none was chosen; on a machine of the cluster auto is enough",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S).close()
    except OSError as exc:
        raise ResourceError(
            f"nothing answers at {address}: {exc.strerror or exc}",
            hint="is the head running (ray start --head), and does a firewall allow this port?",
        ) from exc


def in_actors(job: ArchiveJob, entries: Sequence[ArchiveEntry], *, limits: RayLimits) -> Generator[ManifestRow]:
    """Yield a row for each entry, in the order in which they are done.

    Raises:
        IncompatibleError: the cluster cannot hold one worker.
        ResourceError: a worker cannot write, or Ray gave up.
        DptError: a worker cannot open the artefact, in the class of that error.
    """
    if not entries:
        return
    workers = _workers(limits, len(entries))
    dataset = _dataset(job, entries, limits, workers)
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for found in batch.to_pylist():
                yield _row(found)
    except ray.exceptions.RayTaskError as exc:
        raise DptError(f"a worker failed: {_last_line(exc)}", details=tuple(str(exc).splitlines())) from exc
    except ray.exceptions.RayError as exc:
        raise ResourceError(f"Ray gave up: {_last_line(exc)}", hint="what is done is kept: --resume goes on") from exc


def _workers(limits: RayLimits, images: int) -> int:
    """The largest number of workers that makes sense."""
    there = ray.cluster_resources()
    room = [int(there.get("CPU", 0) // limits.cpus)]
    if limits.gpus:
        room.append(int(there.get("GPU", 0) // limits.gpus))
    if not min(room):
        raise IncompatibleError(
            f"the cluster has {there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs; "
            f"a worker needs {limits.cpus} and {limits.gpus:g}",
            hint="change --cpus or --gpus, or add a machine",
        )
    found = min(limits.workers or min(room), math.ceil(images / limits.block))
    say(f"up to {found} workers of {limits.cpus} processors and {limits.gpus:g} GPUs")
    return found


def _dataset(job: ArchiveJob, entries: Sequence[ArchiveEntry], limits: RayLimits, workers: int) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # progress goes to the reporter
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = min(math.ceil(len(entries) / limits.block), _MAX_BLOCKS)
    items = [{"entry": json.dumps(asdict(entry))} for entry in entries]  # ASCII: a path may be no text
    settings = replace(job.settings, threads=limits.cpus)
    read = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        _Reading(job.source), batch_size=None, batch_format="pyarrow", num_cpus=_READ_CPUS, concurrency=workers
    )
    return read.map_batches(
        _Actor,
        fn_constructor_args=(settings,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=limits.cpus - _READ_CPUS,
        num_gpus=limits.gpus,
    )


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _row(found: dict[str, str]) -> ManifestRow:
    if found["error"]:
        kind: type[DptError] = vars(errors).get(found["error"], DptError)
        raise kind(found["row"], hint=found["hint"])
    row = ManifestRow.from_json(found["row"])
    if row is None:
        raise DptError(f"a worker returned {found['row'][:100]!r}, which is no row")
    return row


class _Reading:
    """Adds the bytes of images, or the reason why there are none."""

    def __init__(self, source: ArchiveSource) -> None:
        self._source = source

    def __call__(self, table: Any) -> Any:
        lines = table["entry"].to_pylist()
        with ThreadPoolExecutor(_READS) as pool:
            found = list(pool.map(self._read, [json.loads(line)["path"] for line in lines]))
        data, messages = [each[0] for each in found], [each[1] for each in found]
        return pa.table({"entry": lines, "bytes": data, "message": messages}, schema=_LINE)

    def _read(self, path: str) -> tuple[bytes, str]:
        try:
            return self._source.read(path), ""
        except BadFileError as exc:
            return b"", str(exc)


class _Actor:
    """A worker in a process that Ray starts. Errors that end the run travel as rows: Ray would retry them."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._worker: ArchiveWorker | None = None

    def __call__(self, table: Any) -> Any:
        rows: list[tuple[str, str, str]] = []
        try:
            if self._worker is None:
                self._worker = ArchiveWorker(self._settings)
            rows.extend((_done(self._worker, line).to_json(), "", "") for line in table.to_pylist())
        except DptError as exc:
            rows.append((str(exc), type(exc).__name__, exc.hint))
        except MemoryError:
            rows.append(("a worker ran out of memory", ResourceError.__name__, "use a smaller size"))
        columns = zip(*rows, strict=True)
        return pa.table(dict(zip(_ROW.names, map(list, columns), strict=True)), schema=_ROW)

    def __del__(self) -> None:
        with suppress(AttributeError):
            if self._worker:
                self._worker.close()


def _done(worker: ArchiveWorker, line: dict[str, Any]) -> ManifestRow:
    entry = ArchiveEntry(**json.loads(line["entry"]))
    if line["message"]:
        return worker.failed(entry, line["message"])
    return worker(entry, line["bytes"])
