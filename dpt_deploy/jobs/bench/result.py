"""Result of a benchmark as one JSON document, with the facts that its numbers depend on."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.files import atomic_write_bytes, ensure_folder
from dpt_deploy.jobs.bench.baseline import SLOWER, Baseline, Regression, regressions
from dpt_deploy.jobs.bench.peak_memory import METHOD, PeakMemory
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.scaling import scaling
from dpt_deploy.measure.timing import Session, Timing

KIND = "latency"
PROTOCOL = (
    "candidates interleaved in one run, order rotating, two runs of warm-up; host clock after synchronisation; "
    "medians (p50), 95 % bootstrap intervals; ratios are medians of round-by-round ratios; the ceiling is the fastest "
    "library's float32 product of two matrices of side 2048, its median in the same run"
)
ON_CPU = "; candidates opened in the given order for half of the time, then in the reverse order"
ON_GPU = (
    "; here of the GPU: PyTorch's product of two matrices of side 8192 in the type of PyTorch's rows; candidates "
    "named -device are compared with the engine on the device"
)


@dataclass(frozen=True)
class Case:
    """One size and batch: the limit that ended its rounds, and the timings of matrix products of this side."""

    size: str
    batch: int
    session: Session[Any]
    products: Mapping[str, Timing]
    side: int

    def to_dict(self) -> dict[str, Any]:
        rates = {name: ceiling.operations(self.side) / timing.median / 1e9 for name, timing in self.products.items()}
        return {
            "size": self.size,
            "batch": self.batch,
            "rounds": self.session.rounds,
            "seconds": self.session.seconds,
            "ended_by": self.session.ended_by,
            "enough_rounds": self.session.enough,
            "product_gflop_per_second": rates,
        }


@dataclass(frozen=True)
class Row:
    """One candidate at one size and batch.

    Attributes:
        size: network input size.
        batch: number of images in a run.
        candidate: name of what was timed.
        timing: seconds of its runs.
        operations: operations of a run of the exported graph; a candidate that does more work is rated by these too.
        attention: the part of them in attention.
        share: achieved rate over the measured ceiling; None if it computes in another type than the matrix products, or
            faster than they.
        against: times slower than the reference, with its 95 % interval; None: it is the reference.
        memory: peak memory, if it was measured.
        reference: name of the candidate that ratios refer to.
        parts: median seconds of the parts of a run, if they were timed.
    """

    size: str
    batch: int
    candidate: str
    timing: Timing
    operations: int
    attention: int
    share: float | None
    against: tuple[float, float, float] | None
    memory: PeakMemory | None
    reference: str = "ort"
    parts: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "batch": self.batch,
            "contender": self.candidate,
            "p50_ms": self.timing.median * 1e3,
            "interval_ms": [edge * 1e3 for edge in self.timing.interval()],
            "p90_ms": self.timing.percentile(90) * 1e3,
            "p99_ms": self.timing.percentile(99) * 1e3,
            "samples": len(self.timing.seconds),
            "images_per_second": self.batch / self.timing.median,
            "gflop": self.operations / 1e9,
            "attention_share": self.attention / self.operations,
            "gflop_per_second": self.operations / self.timing.median / 1e9,
            "share_of_ceiling": self.share,
            f"{SLOWER}{self.reference}": self.against,
            "memory": self.memory.to_dict() if self.memory else None,
            **({"parts_ms": {name: value * 1e3 for name, value in self.parts.items()}} if self.parts else {}),
        }


@dataclass(frozen=True)
class BenchResult:
    """Rows of a benchmark, and the facts that they depend on.

    ``steps`` are the median seconds of the steps from a photograph to its map, by size, with the candidate
    ``steps_with``. ``clocks`` were read before and after. ``candidates`` describes what was timed under each name.
    ``settings`` are the options of its library that a candidate had: threads, streams, and when they spin. ``device``
    is where PyTorch computed.
    """

    artifact: Artifact
    cases: tuple[Case, ...]
    rows: tuple[Row, ...]
    steps: Mapping[str, Mapping[str, float]]
    steps_with: str
    photograph: str
    environment: Mapping[str, Any]
    clocks: tuple[Mapping[str, Any], Mapping[str, Any]]
    recorded: datetime.datetime
    candidates: Mapping[str, str]
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    device: str = "cpu"

    def to_dict(self) -> dict[str, Any]:
        sidecar = self.artifact.sidecar
        rows = [row.to_dict() for row in self.rows]
        cases = [case.to_dict() for case in self.cases]
        return {
            "kind": KIND,
            "recorded": self.recorded.isoformat(timespec="seconds"),
            "model": self.artifact.path.stem,
            "weights": str(sidecar.weights),
            "sha256": {payload.name: payload.sha256 for payload in sidecar.payloads},
            "protocol": PROTOCOL + (ON_GPU if self.device == "cuda" else ON_CPU),
            "contenders": dict(self.candidates),
            "settings": {name: dict(options) for name, options in self.settings.items()},
            "memory_method": METHOD if any(row.memory for row in self.rows) else None,
            "environment": {**self.environment, "clocks": dict(zip(("before", "after"), self.clocks, strict=True))},
            "matrix_ceiling_gflop_per_second": max(max(case["product_gflop_per_second"].values()) for case in cases),
            "cases": cases,
            "rows": rows,
            "scaling": [step.to_dict() for step in scaling(rows)],
            "photograph": self.photograph,
            "end_to_end_with": self.steps_with,
            "end_to_end_ms": {
                size: {name: value * 1e3 for name, value in steps.items()} for size, steps in self.steps.items()
            },
        }

    def worse_than(self, baseline: Baseline) -> list[Regression]:
        """Return the ratios that are worse than those recorded in ``baseline``."""
        return regressions([row.to_dict() for row in self.rows], baseline)

    @property
    def file_name(self) -> str:
        """File name made from kind, model, weights, machine, versions and date."""
        tools, weights = self.environment["tools"], self.artifact.sidecar.weights.kind
        ort = tools.get("onnxruntime") or tools.get("onnxruntime-gpu", "")
        parts = [KIND, self.artifact.path.stem, weights, *self._machine()]
        parts += [f"torch{tools.get('torch', '')}", f"ort{ort}"]
        return "-".join([*parts, f"{self.recorded:%Y%m%d}"]) + ".json"

    def _machine(self) -> list[str]:
        """Return the GPU and, for an engine, the library that built it; else the processor and its cores."""
        engine = self.artifact.sidecar.engine
        if self.device != "cuda":
            return [_slug(self.environment["processor"]), f"{self.environment['cores']}c"]
        gpu = _slug(str((self.environment["gpus"] or ["gpu"])[0]).partition(",")[0])
        return [gpu, *([f"{_slug(engine.library)}{engine.version}"] if engine else [])]

    def write(self, folder: Path) -> Path:
        """Write the document into ``folder``, replacing a file of the same name; return its path.

        Raises:
            ResourceError: it cannot be written; an existing file is kept.
        """
        ensure_folder(folder)
        path = folder / self.file_name
        atomic_write_bytes(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())
        return path


def machine() -> dict[str, Any]:
    """Return versions, processor, cores and GPU, and the number of threads if the environment sets it."""
    return {**fingerprint(), "omp_num_threads": os.environ.get("OMP_NUM_THREADS")}


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
