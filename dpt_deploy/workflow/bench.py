"""Side by side, in one run: PyTorch, the plain export of the Hugging Face model, and our artefact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dpt_deploy.bench.baseline import Baseline, Regression, read_baseline, regressions
from dpt_deploy.bench.ceiling import OPERATIONS, matrix_product
from dpt_deploy.bench.timing import Contender, Timing, interleave, ratio
from dpt_deploy.core.artifact import Artifact
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.optional import extra
from dpt_deploy.core.spec import Size
from dpt_deploy.model import published
from dpt_deploy.workflow import contenders as registry_of_contenders
from dpt_deploy.workflow.contenders import OURS
from dpt_deploy.workflow.export import export_model
from dpt_deploy.workflow.feeds import check_request
from dpt_deploy.workflow.predict import load

DEFAULT = ("torch", OURS)
_CEILING = "matrix product"
STEPS = ("decode", "prepare", "model", "finish")


@dataclass(frozen=True)
class BenchRow:
    """One contender at one size and batch. ``against`` is how many times slower than ours it is, with its interval."""

    size: str
    batch: int
    contender: str
    timing: Timing
    against: tuple[float, float, float] | None
    operations: int
    attention: int

    @property
    def rate(self) -> float:
        """Operations of our graph per second: for a contender that does more work, its useful rate."""
        return self.operations / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "batch": self.batch,
            "contender": self.contender,
            "median_ms": self.timing.median * 1e3,
            "interval_ms": [edge * 1e3 for edge in self.timing.interval()],
            "p90_ms": self.timing.percentile(90) * 1e3,
            "p99_ms": self.timing.percentile(99) * 1e3,
            "samples": len(self.timing.seconds),
            "images_per_second": self.batch / self.timing.median,
            "gflop": self.operations / 1e9,
            "attention_share": self.attention / self.operations,
            "gflop_per_second": self.rate / 1e9,
            "times_slower_than_ort": self.against,
        }


@dataclass(frozen=True)
class BenchResult:
    """Rows by size, and what they must be read with. ``steps`` are medians in seconds of a photograph's way through."""

    model: str
    weights: str
    ceiling: float
    rows: tuple[BenchRow, ...]
    steps: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights,
            "protocol": "contenders interleaved in one run, order rotating, medians, 95 % bootstrap intervals",
            "environment": fingerprint(),
            "matrix_ceiling_gflop_per_second": self.ceiling / 1e9,
            "rows": [{**row.to_dict(), "share_of_ceiling": row.rate / self.ceiling} for row in self.rows],
            "end_to_end_ms": {name: value * 1e3 for name, value in self.steps.items()},
        }

    def worse_than(self, baseline: Baseline) -> list[Regression]:
        """Ratios that fell below those recorded in ``baseline``."""
        return regressions(self.to_dict(), baseline)


def cached_artifact(backbone: str, say: Callable[[str], None]) -> Artifact:
    """The random-weights export of a zoo model in the cache folder, made once; no network is needed."""
    folder = published.cache_folder().parent / "models"
    return export_model(backbone, folder, weights="random", say=say)


def bench_artifact(
    artifact: Artifact,
    sizes: Sequence[Size],
    *,
    batches: Sequence[int] = (1,),
    contenders: Sequence[str] = DEFAULT,
    seconds: float = 10.0,
    photograph: Path | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> BenchResult:
    """Time ``contenders`` at each size and batch, interleaved, about ``seconds`` each.

    With a ``photograph`` our own way from file to depth map is timed step by step as well.

    Raises:
        UsageError: an unknown contender, or one that cannot run a size.
        BadFileError: the photograph cannot be read.
    """
    if photograph:
        _read_photograph(photograph)
    for size, batch in product(sizes, batches):
        check_request(artifact.sidecar, size, batch)
        for name in contenders:
            registry_of_contenders.check(name, artifact, size)
    with extra("export", purpose="counting operations"):
        import onnx  # noqa: F401  now rather than after minutes of timing
    makers = {name: registry_of_contenders.make(name) for name in contenders}
    module = registry_of_contenders.reference_module(artifact) if set(makers) - {OURS} else None
    rows: list[BenchRow] = []
    ceiling = 0.0
    for size in sizes:
        for batch in batches:
            progress(f"timing {', '.join(makers)} at {size}, batch {batch}")
            with ExitStack() as stack:
                entered = {
                    name: stack.enter_context(make(artifact, module, size, batch)) for name, make in makers.items()
                }
                entered[_CEILING] = Contender(matrix_product(), lambda: None)
                timings = interleave(entered, seconds=seconds)
            ceiling = max(ceiling, OPERATIONS / float(timings.pop(_CEILING).seconds.min()))
            rows += _rows(artifact, size, batch, timings)
    steps = _steps(artifact, photograph, seconds) if photograph else {}
    return BenchResult(artifact.path.stem, str(artifact.sidecar.weights), ceiling, tuple(rows), steps)


def _rows(artifact: Artifact, size: Size, batch: int, timings: dict[str, Timing]) -> list[BenchRow]:
    from dpt_deploy.graph.operations import count_operations

    counted = count_operations(artifact.path, size, batch)
    against = {
        name: ratio(timing, timings[OURS]) if name != OURS and OURS in timings else None
        for name, timing in timings.items()
    }
    return [
        BenchRow(str(size), batch, name, timing, against[name], counted.total, counted.attention)
        for name, timing in timings.items()
    ]


def _steps(artifact: Artifact, photograph: Path, seconds: float) -> dict[str, float]:
    """Medians of the steps of :meth:`Predictor.predict`, and of reading the file before it."""
    image = _read_photograph(photograph)
    height, width = image.shape[:2]
    with load(artifact.path) as predictor:
        feed = predictor.prepare(image)
        output = predictor.infer(feed)
        calls = (
            lambda: _read_photograph(photograph),
            lambda: predictor.prepare(image),
            lambda: predictor.infer(feed),
            lambda: predictor.finish(output, height, width),
        )
        steps = {name: Contender(call, lambda: None) for name, call in zip(STEPS, calls, strict=True)}
        return {name: timing.median for name, timing in interleave(steps, seconds=seconds).items()}


def _read_photograph(path: Path) -> Any:
    from dpt_deploy.core.images import read_image

    return read_image(path)


__all__ = ["BenchResult", "BenchRow", "bench_artifact", "cached_artifact", "read_baseline"]
