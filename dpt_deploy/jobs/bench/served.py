"""Throughput of a model on a server: a closed loop at several numbers of clients, every answer compared."""

from __future__ import annotations

import datetime
import json
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, ensure_folder
from dpt_deploy.core.progress import progress
from dpt_deploy.core.runner import Runner, Tensors
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.bench.result import machine
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure.metrics import range_error

KIND = "serving"
LEVELS = (1, 2, 4, 8)  # clients that send at once
SLICE_SECONDS = 1.0
_WRONG = 1e-4  # largest difference over the output's range: a batch may round otherwise than a lone image


@dataclass
class ServingLevel:
    """Measurements at one number of clients, each of which sends its next request when it has its answer.

    ``rates`` are the requests per second of each slice of time. ``wrong`` answers differ from the lone one, ``failed``
    requests have none.
    """

    concurrency: int
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: int = 0

    @property
    def requests(self) -> int:
        """Number of answers."""
        return len(self.latencies)

    def to_dict(self) -> dict[str, Any]:
        return {
            "concurrency": self.concurrency,
            "requests": self.requests,
            "wrong": self.wrong,
            "failed": self.failed,
            "requests_per_second": float(np.median(self.rates)) if self.rates else 0.0,
            "requests_per_second_range": [min(self.rates), max(self.rates)] if self.rates else None,
            "p50_ms": self._percentile(50),
            "p99_ms": self._percentile(99),
        }

    def _percentile(self, share: float) -> float | None:
        return float(np.percentile(self.latencies, share)) * 1e3 if self.latencies else None


@dataclass(frozen=True)
class ServingResult:
    """Result of one benchmark of a server: the model, the sizes, and the levels in ascending order."""

    artifact: Artifact
    address: str
    sizes: tuple[str, ...]
    levels: tuple[ServingLevel, ...]
    environment: dict[str, Any]
    recorded: datetime.datetime

    def to_dict(self) -> dict[str, Any]:
        sidecar = self.artifact.sidecar
        return {
            "kind": KIND,
            "recorded": self.recorded.isoformat(timespec="seconds"),
            "model": self.artifact.path.stem,
            "weights": str(sidecar.weights),
            "sha256": {payload.name: payload.sha256 for payload in sidecar.payloads},
            "protocol": "closed loop; levels interleaved in slices of 1 s after a warm-up; every answer compared",
            "scheme": self.address.partition("://")[0],
            "sizes": list(self.sizes),
            "environment": self.environment,
            "levels": [level.to_dict() for level in self.levels],
        }

    def write(self, folder: Path) -> Path:
        """Write the document into ``folder``; return its path.

        Raises:
            ResourceError: it cannot be written.
        """
        ensure_folder(folder)
        cores, scheme = self.environment["cores"], self.address.partition("://")[0]
        path = folder / f"{KIND}-{self.artifact.path.stem}-{scheme}-{cores}c-{self.recorded:%Y%m%d}.json"
        atomic_write_bytes(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())
        return path


def bench_served(
    artifact: Artifact | Path | str,
    address: str,
    *,
    sizes: Sequence[Size | str] = (),
    levels: Sequence[int] = LEVELS,
    seconds: float = 60.0,
) -> ServingResult:
    """Send requests of one image to the model at ``address`` for ``seconds``, shared by all ``levels``.

    Clients take the ``sizes`` in turn (default: the size of training). Each answer is compared with the one that a lone
    request got before.

    Raises:
        UsageError: it is no address, or the artefact cannot take a size.
        IncompatibleError: the server has another model.
        ResourceError: no server answers, or the model cannot compute.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    image, static = opened.sidecar.image, opened.sidecar.shapes.static_size
    chosen = [parse_size(size, stride=1) if isinstance(size, str) else size for size in sizes]
    chosen = chosen or [static or Size(image.height, image.width)]
    if not levels or min(levels) < 1:
        raise UsageError(f"levels {list(levels)} are no numbers of clients", hint="for example 1, 2, 4, 8")
    for size in chosen:
        check_request(opened.sidecar, size)
    inputs = [model_inputs(opened.sidecar, parity_images(opened.sidecar.precision, 1, size)) for size in chosen]
    recorded = datetime.datetime.now(datetime.UTC)
    with open_runner(opened, address) as runner:
        expected = [runner.infer(each) for each in inputs]
        found = {level: ServingLevel(level) for level in levels}
        rounds = max(1, math.ceil(seconds / (len(found) * SLICE_SECONDS)))
        with progress("slices", rounds * len(found)) as done:
            for _ in range(rounds):
                for level in found.values():
                    _slice(runner, inputs, expected, level)
                    done.advance()
    return ServingResult(opened, address, tuple(map(str, chosen)), tuple(found.values()), machine(), recorded)


def _slice(runner: Runner, inputs: Sequence[Tensors], expected: Sequence[Tensors], level: ServingLevel) -> None:
    """Let ``level.concurrency`` clients send for one slice, and add what they measured."""
    parts = [ServingLevel(level.concurrency) for _ in range(level.concurrency)]
    started = time.perf_counter()
    end = started + SLICE_SECONDS
    threads = [
        threading.Thread(target=_client, args=(runner, inputs, expected, part, first, end))
        for first, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    level.rates.append(sum(part.requests for part in parts) / (time.perf_counter() - started))
    for part in parts:
        level.latencies += part.latencies
        level.wrong += part.wrong
        level.failed += part.failed


def _client(
    runner: Runner,
    inputs: Sequence[Tensors],
    expected: Sequence[Tensors],
    part: ServingLevel,
    first: int,
    end: float,
) -> None:
    index = first
    while (started := time.perf_counter()) < end:
        case = index % len(inputs)
        index += 1
        try:
            answer = runner.infer(inputs[case])
        except DptError:
            part.failed += 1
            continue
        part.latencies.append(time.perf_counter() - started)
        part.wrong += not all(_agree(answer[name], wanted) for name, wanted in expected[case].items())


def _agree(found: np.ndarray, wanted: np.ndarray) -> bool:
    if found.shape != wanted.shape:
        return False
    return np.array_equal(found, wanted) or range_error(found, wanted)[0] <= _WRONG


__all__ = ["LEVELS", "ServingLevel", "ServingResult", "bench_served"]
