"""Side by side, in one run: PyTorch, the plain export of the Hugging Face model, and our artefact."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.bench.timing import Contender, Timing, interleave, ratio
from dpt_deploy.core.artifact import Artifact
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.spec import Size
from dpt_deploy.model import published
from dpt_deploy.parity.samples import structured_images
from dpt_deploy.runtime import registry
from dpt_deploy.workflow.export import export_model
from dpt_deploy.workflow.feeds import model_feed, reference_input

CONTENDERS = ("torch", "hf-ort", "ort")
DEFAULT = ("torch", "ort")


@dataclass(frozen=True)
class BenchRow:
    """One contender at one size. ``against`` is how many times slower than ``ort`` it is, with its interval."""

    size: str
    contender: str
    timing: Timing
    against: tuple[float, float, float] | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "contender": self.contender,
            "median_ms": self.timing.median * 1e3,
            "interval_ms": [edge * 1e3 for edge in self.timing.interval()],
            "p90_ms": self.timing.percentile(90) * 1e3,
            "samples": len(self.timing.seconds),
            "times_slower_than_ort": self.against,
        }


@dataclass(frozen=True)
class BenchResult:
    """Rows by size, and what they must be read with."""

    model: str
    weights: str
    rows: tuple[BenchRow, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights,
            "protocol": "batch 1, contenders interleaved in one run, medians, 95 % bootstrap intervals",
            "environment": fingerprint(),
            "rows": [row.to_dict() for row in self.rows],
        }


def cached_artifact(backbone: str, say: Callable[[str], None]) -> Artifact:
    """The random-weights export of a zoo model in the cache folder, made once; no network is needed."""
    folder = published.cache_folder().parent / "models"
    return export_model(backbone, folder, weights="random", say=say)


def bench_artifact(
    artifact: Artifact,
    sizes: Sequence[Size],
    *,
    contenders: Sequence[str] = DEFAULT,
    seconds: float = 10.0,
    progress: Callable[[str], None] = lambda _size: None,
) -> BenchResult:
    """Time ``contenders`` on one image at each size, interleaved, about ``seconds`` a size.

    Raises:
        UsageError: an unknown contender, or one that this model does not have.
    """
    for name in contenders:
        if name not in CONTENDERS:
            raise UsageError(f"unknown contender {name!r}", hint=f"known: {', '.join(CONTENDERS)}")
    module = _reference(artifact) if set(contenders) - {"ort"} else None
    rows: list[BenchRow] = []
    for size in sizes:
        progress(str(size))
        with ExitStack() as stack:
            entered = {name: stack.enter_context(_contender(name, artifact, module, size)) for name in contenders}
            timings = interleave(entered, seconds=seconds)
        rows += [BenchRow(str(size), name, timing, _against(name, timings)) for name, timing in timings.items()]
    sidecar = artifact.sidecar
    return BenchResult(artifact.path.stem, str(sidecar.weights), tuple(rows))


def _against(name: str, timings: dict[str, Timing]) -> tuple[float, float, float] | None:
    return ratio(timings[name], timings["ort"]) if name != "ort" and "ort" in timings else None


def _reference(artifact: Artifact) -> Any:
    with extra("export", purpose="timing PyTorch"):
        from dpt_deploy.workflow.reference import reference_of
    return reference_of(artifact.sidecar)


@contextmanager
def _contender(name: str, artifact: Artifact, module: Any, size: Size) -> Iterator[Contender]:
    sidecar = artifact.sidecar
    images = structured_images(1, size.height, size.width)
    if name == "ort":
        with registry.open_file(artifact.path) as runner:
            yield _call(runner, model_feed(sidecar, images))
    elif name == "torch":
        runner_class = registry.runner_class("torch")
        with runner_class(module, sidecar.inputs, sidecar.outputs) as runner:
            yield _call(runner, {sidecar.inputs[0].name: reference_input(sidecar, images)["pixel_values"]})
    else:
        with _plain_huggingface_export(module, size) as path, registry.open_file(path) as runner:
            yield _call(runner, reference_input(sidecar, images))


def _call(runner: Runner, feed: dict[str, np.ndarray]) -> Contender:
    return Contender(run=lambda: runner.infer(feed), synchronize=runner.synchronize)


@contextmanager
def _plain_huggingface_export(module: Any, size: Size) -> Iterator[Path]:
    """The Hugging Face model with the same weights, exported the plain way: static, the exporter's defaults."""
    import tempfile

    with extra("oracle", purpose="the contender hf-ort"):
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        from dpt_deploy.workflow.huggingface import export_plain
    if size.height != size.width:
        raise UsageError(f"hf-ort cannot run {size}", hint="the Hugging Face model takes square images only")
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as folder:
        yield export_plain(module, size, Path(folder))
