"""What is wrong with a 16-bit artefact: headroom, where it stops being finite, and which nodes should stay FP32.

The typed graph is compared with itself computed in FP32 (:mod:`dpt_deploy.graph.precision.emulate`), so that neither
PyTorch nor the checkpoint is needed, and what is found is due to the types of tensors alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dpt_deploy.core import metrics
from dpt_deploy.core.artifact import Artifact, open_model
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.spec import HALF, Size
from dpt_deploy.parity.bisect import Divergence, first_divergence, smallest_set
from dpt_deploy.parity.samples import structured_images
from dpt_deploy.workflow.feeds import check_request, model_feed
from dpt_deploy.workflow.payloads import golden_size
from dpt_deploy.workflow.runners import open_runner

if TYPE_CHECKING:
    from dpt_deploy.graph.precision.types import HalfPrecision

Talk = Callable[[str], None]
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Headroom:
    """The largest magnitude of a tensor in FP32, and how often that fits into the largest value of its type."""

    tensor: str
    largest: float
    times: float


@dataclass(frozen=True)
class Diagnosis:
    """What was found at one size. ``keep`` are nodes whose staying in FP32 would meet the tolerance: none where it is
    met already, None where rounding of tensors is not the cause."""

    artifact: Artifact
    size: Size
    largest_error: float
    mean_error: float
    tolerance: Tolerance
    headroom: tuple[Headroom, ...]
    not_finite: str | None
    diverges_at: Divergence | None
    keep: tuple[str, ...] | None

    @property
    def passed(self) -> bool:
        return self.keep == ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifact": str(self.artifact.path),
            "precision": self.artifact.sidecar.precision,
            "size": str(self.size),
            "max": self.largest_error if np.isfinite(self.largest_error) else None,
            "mean": self.mean_error if np.isfinite(self.mean_error) else None,
            "tolerance": asdict(self.tolerance),
            "headroom": [asdict(each) for each in self.headroom],
            "not_finite": self.not_finite,
            "diverges_at": self.diverges_at.tensor if self.diverges_at else None,
            "keep_fp32": None if self.keep is None else list(self.keep),
        }


def diagnose_artifact(path: Path, *, size: Size | None = None, say: Talk = lambda _line: None) -> Diagnosis:
    """Diagnose the 16-bit artefact at ``path`` at ``size`` (default: that of its golden tensors), batch 1.

    Raises:
        UsageError: it is not of 16 bits, or does not take the size.
        BadFileError: it is damaged.
        ResourceError: disk or memory.
    """
    artifact = open_model(path)
    sidecar = artifact.sidecar
    if sidecar.precision not in HALF:
        raise UsageError(
            f"{path.name} is {sidecar.precision}: it has no narrow types to diagnose",
            hint="`dpt-deploy verify` names the first tensor that diverges in it",
        )
    size = size or golden_size(sidecar)[1]
    check_request(sidecar, size)
    with _Workshop(artifact, model_feed(sidecar, structured_images(1, size.height, size.width))) as workshop:
        say(f"measuring headroom at {size}")
        headroom = workshop.headroom()
        not_finite, divergence = workshop.first_trouble()
        largest, mean = workshop.error(())
        say("searching the nodes that should stay FP32")
        found = smallest_set(workshop.nodes, lambda keep: workshop.within(keep, say))
    keep = None if found is None else tuple(name for name in workshop.nodes if name in found)
    return Diagnosis(artifact, size, largest, mean, sidecar.tolerance, headroom, not_finite, divergence, keep)


class _Workshop:
    """Variants of one typed graph, each with other nodes kept in FP32, and what they make of one input."""

    def __init__(self, artifact: Artifact, feed: Values) -> None:
        with extra("export", purpose="diagnosing a graph"):
            from dpt_deploy.graph.describe import read_graph
            from dpt_deploy.graph.mark import half_tensors
        self.artifact, self.feed = artifact, feed
        self.tolerance = artifact.sidecar.tolerance
        model = read_graph(artifact.path)
        self.nodes = [node.name for node in model.graph.node]
        self.tensors = half_tensors(model)

    def __enter__(self) -> _Workshop:
        self._scratch = tempfile.TemporaryDirectory(prefix="dpt-deploy-diagnose-")
        self.folder = Path(self._scratch.name)
        (self.exact,) = self._outputs(self.nodes).values()
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def headroom(self) -> tuple[Headroom, ...]:
        """Of every tensor, least first."""
        from dpt_deploy.graph.precision.islands import LARGEST
        from dpt_deploy.graph.precision.ranges import OUTPUT, write_probe

        limit = LARGEST[cast("HalfPrecision", self.artifact.sidecar.precision)]
        probe = write_probe(self._variant(self.nodes), self.folder / "probe.onnx")
        largest = dict(zip(probe.tensors, self._run(probe.path)[OUTPUT].tolist(), strict=True))
        found = [
            Headroom(name, largest[f"{name}.exact"], limit / max(largest[f"{name}.exact"], 1e-30))
            for name in self.tensors
            if f"{name}.exact" in largest
        ]
        return tuple(sorted(found, key=lambda each: each.times))

    def first_trouble(self) -> tuple[str | None, Divergence | None]:
        """The first tensor that is not finite, and the first over the tolerance."""
        not_finite: list[str] = []

        def probe(names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
            rounded, exact = self._tensors((), names), self._tensors(self.nodes, names)
            not_finite.extend(name for name in names if not np.isfinite(rounded[name]).all())
            return {name: (rounded[name], exact[name]) for name in names}

        divergence = first_divergence(self.tensors, probe, self.tolerance)
        return (not_finite[0] if not_finite else None), divergence

    def error(self, keep: Collection[str]) -> tuple[float, float]:
        """Largest and mean error over the range, of the output with those nodes kept in FP32."""
        (output,) = self._outputs(keep).values()
        return metrics.range_error(output, self.exact) if np.isfinite(output).all() else (float("inf"), float("inf"))

    def within(self, keep: Collection[str], say: Talk) -> bool:
        largest, mean = self.error(keep)
        say(f"{len(keep)} of {len(self.nodes)} nodes in FP32: max {largest:.1e} of range")
        return largest <= self.tolerance.max and mean <= self.tolerance.mean

    def _outputs(self, keep: Collection[str]) -> Values:
        return self._run(self._variant(keep))

    def _tensors(self, keep: Collection[str], names: Sequence[str]) -> Values:
        """The tensors before they are rounded for a reader outside ``keep``: of kept nodes, and of the others after."""
        from dpt_deploy.graph.mark import mark_outputs

        exact = {name: f"{name}.exact" if keep else name for name in names}
        marked = self.folder / "marked.onnx"
        mark_outputs(self._variant(keep), list(exact.values()), marked)
        values = self._run(marked)
        return {name: values[exact[name]] for name in names}

    def _variant(self, keep: Collection[str]) -> Path:
        """The emulated graph with those nodes kept in FP32; it replaces the variant before."""
        from dpt_deploy.graph.precision.emulate import write_emulated

        path = self.folder / "variant.onnx"
        for old in self.folder.glob("variant.onnx*"):
            old.unlink()
        write_emulated(self.artifact.path, path, keep)
        return path

    def _run(self, path: Path) -> Values:
        with open_runner(path) as runner:
            return runner.infer(self.feed)
