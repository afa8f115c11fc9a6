"""Variants of one typed graph: each keeps other nodes in higher precision, and all compute the same input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import onnx

from dpt_deploy.artifact.records import QuantisationRecord
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.mark import half_tensors, mark_outputs, tensor_names
from dpt_deploy.graph.precision.bypass import bypass, pairs, quantised_nodes
from dpt_deploy.graph.precision.emulate import write_emulated
from dpt_deploy.graph.precision.qdq import quantised_format
from dpt_deploy.graph.precision.ranges import OUTPUT, write_probe
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.verify.bisect import first_divergence
from dpt_deploy.jobs.verify.result import Divergence
from dpt_deploy.measure import metrics

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Headroom:
    """Headroom of one tensor.

    ``largest`` is its largest magnitude in FP32. ``times`` is the limit over that; the limit is the largest value of
    its type, or the value at which it is clipped.
    """

    tensor: str
    largest: float
    times: float


@dataclass(frozen=True)
class Noise:
    """Effect of rounding on one quantised tensor.

    ``sqnr`` is the ratio of signal to noise in dB (None: no noise), ``clipped`` the share of its numbers beyond the
    clipping value.
    """

    tensor: str
    sqnr: float | None
    clipped: float


@dataclass(frozen=True)
class OutputError:
    """Largest and mean error of one output, as shares of its range, and the tolerance that they are held to."""

    output: str
    max: float
    mean: float
    tolerance: Tolerance

    @property
    def within(self) -> bool:
        return self.max <= self.tolerance.max and self.mean <= self.tolerance.mean

    @property
    def excess(self) -> float:
        """The larger error, in units of what is allowed."""
        return max(self.max / max(self.tolerance.max, 1e-30), self.mean / max(self.tolerance.mean, 1e-30))


class Variants:
    """Variants of a 16-bit graph, held while it is open: a node that is kept passes its numbers on in FP32.

    ``nodes`` are those that can be kept, ``tensors`` those that are examined. ``tolerances`` are those of the outputs,
    by name; tensors inside the graph are held to the strictest of them.
    """

    def __init__(self, artifact: Artifact, inputs: Values, tolerances: Mapping[str, Tolerance]) -> None:
        self.artifact, self.inputs, self.tolerances = artifact, inputs, tolerances
        self._least = {output.name: output.kind.full_scale for output in artifact.sidecar.outputs}
        self._examine(read_graph(artifact.path))

    def _examine(self, model: onnx.ModelProto) -> None:
        self.nodes = [node.name for node in model.graph.node]
        self.tensors = half_tensors(model)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = stack.enter_context(scratch_folder())
            self.exact = self._run(self._exact_variant())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def headroom(self) -> tuple[Headroom, ...]:
        """Headroom of every tensor that has a limit, least first."""
        probe = write_probe(self._exact_variant(), self.folder / "probe.onnx")
        largest = dict(zip(probe.tensors, self._run(probe.path)[OUTPUT].tolist(), strict=True))
        found = []
        for name, limit in self.limits().items():
            value = largest.get(f"{name}.exact", largest.get(name))
            if value is not None:
                found.append(Headroom(name, value, limit / max(value, 1e-30)))
        return tuple(sorted(found, key=lambda each: each.times))

    def limits(self) -> Mapping[str, float]:
        """The largest number that each tensor can hold."""
        return dict.fromkeys(self.tensors, find_precision(self.artifact.sidecar.precision).largest_float)

    def noise(self) -> tuple[Noise, ...]:
        """Noise of every quantised tensor, most noise first."""
        return ()

    def first_trouble(self) -> tuple[str | None, Divergence | None]:
        """The first tensor that is not finite, and the first that exceeds the tolerance."""
        not_finite: list[str] = []

        def probe(names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
            rounded = self._tensors(self._variant(()), {name: name for name in names})
            variant = self._exact_variant()
            there = set(tensor_names(variant))
            exact = {name: f"{name}.exact" if f"{name}.exact" in there else name for name in names}
            full = self._tensors(variant, exact)
            not_finite.extend(name for name in names if not np.isfinite(rounded[name]).all())
            return {name: (rounded[name], full[name]) for name in names}

        divergence = first_divergence(self.tensors, probe, _strictest(self.tolerances))
        return (not_finite[0] if not_finite else None), divergence

    def error(self, keep: Collection[str]) -> OutputError:
        """The error of the output that is worst for its tolerance, with those nodes kept."""
        found = self._run(self._variant(keep))
        errors = [
            OutputError(name, *metrics.range_error(found[name], self.exact[name], self._least[name]), tolerance)
            for name, tolerance in self.tolerances.items()
        ]
        return max(errors, key=lambda each: each.excess)

    def within(self, keep: Collection[str]) -> bool:
        """Return True if every output meets its tolerance with these nodes kept."""
        worst = self.error(keep)
        say(f"{len(keep)} of {len(self.nodes)} nodes kept: max {worst.max:.1e} of range in {worst.output}")
        return worst.within

    def _write(self, path: Path, keep: Collection[str], *, exact: bool) -> None:
        write_emulated(self.artifact.path, path, self.nodes if exact else keep)

    def _variant(self, keep: Collection[str], *, exact: bool = False) -> Path:
        """The graph with those nodes kept; it replaces the previous variant."""
        path = self.folder / "variant.onnx"
        for old in self.folder.glob("variant.onnx*"):
            old.unlink()
        self._write(path, keep, exact=exact)
        return path

    def _exact_variant(self) -> Path:
        """The graph in FP32; only its weights are rounded."""
        return self._variant((), exact=True)

    def _tensors(self, variant: Path, names: Mapping[str, str]) -> Values:
        """Values of the tensors of ``variant``, by the keys of ``names``."""
        marked = self.folder / "marked.onnx"
        mark_outputs(variant, list(dict.fromkeys(names.values())), marked)
        values = self._run(marked)
        return {name: values[there] for name, there in names.items()}

    def _run(self, path: Path) -> Values:
        with open_runner(path, in_order=True) as runner:
            return runner.infer(self.inputs)


def _strictest(tolerances: Mapping[str, Tolerance]) -> Tolerance:
    first, *others = tolerances.values()
    return replace(
        first,
        max=min((first.max, *(each.max for each in others))),
        mean=min((first.mean, *(each.mean for each in others))),
    )


class QuantisedVariants(Variants):
    """Variants of an 8-bit graph: a node that is kept multiplies unrounded activations."""

    def __init__(
        self, artifact: Artifact, inputs: Values, tolerances: Mapping[str, Tolerance], record: QuantisationRecord
    ) -> None:
        super().__init__(artifact, inputs, tolerances)
        self._record = record

    def _examine(self, model: onnx.ModelProto) -> None:
        super()._examine(model)
        nodes = quantised_nodes(model)
        self._pairs, self._all = pairs(model), self.nodes
        self.nodes, self.tensors = [node.name for node in nodes], [node.output[0] for node in nodes]

    def limits(self) -> Mapping[str, float]:
        return self._record.clip

    def noise(self) -> tuple[Noise, ...]:
        wanted = dict.fromkeys(name for pair in self._pairs for name in (pair.source, pair.restored))
        values = self._tensors(self._variant(()), {name: name for name in wanted})
        noises = []
        for pair in self._pairs:
            source = np.maximum(values[pair.source], 0) if pair.bounded else values[pair.source]
            clip = self._record.clip.get(pair.tensor, float("inf"))
            beyond = float(np.mean(np.abs(source) > clip * 1.0001))
            noises.append(Noise(pair.tensor, metrics.sqnr([(values[pair.restored], source)]), beyond))
        return tuple(sorted(noises, key=lambda each: float("inf") if each.sqnr is None else each.sqnr))

    def _write(self, path: Path, keep: Collection[str], *, exact: bool) -> None:
        model = read_graph(self.artifact.path, weights=True)
        bypass(model, self.nodes if exact else keep, outputs=quantised_format(self.artifact.sidecar.precision).outputs)
        bypassed = path.with_name("bypassed.onnx")
        for old in path.parent.glob("bypassed.onnx*"):
            old.unlink()
        onnx.save(model, bypassed)
        write_emulated(bypassed, path, self._all if exact else ())
