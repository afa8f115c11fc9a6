"""The smallest piece of a graph that an engine computes wrong by itself.

The first wrong tensor is found by a scan (:mod:`dpt_deploy.jobs.verify.bisect`). Right values are then handed in as
near to it as possible: if the piece between them is computed right (its nodes may be wrong only together with earlier
ones, as when an engine fuses them), right values are handed in farther up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Tensors
from dpt_deploy.graph.pieces import FLOATS, Cut, build_piece, find_cut
from dpt_deploy.jobs.repro.engines import EngineGraph, KnownTensors, Values
from dpt_deploy.jobs.verify.bisect import first_divergence
from dpt_deploy.jobs.verify.search import shortest_prefix
from dpt_deploy.measure import metrics

_CHUNK = 16  # tensors in memory at a time


@dataclass(frozen=True)
class Piece:
    """A graph to hand on, with right inputs and outputs.

    ``error`` is the largest and the mean error of the engine over the range of the output, or (share of other labels,
    the same). ``given`` are the tensors handed in; it is empty for a whole graph.
    """

    model: ModelProto
    inputs: Values
    expected: Values
    error: tuple[float, float]
    given: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.given


class PieceSearch:
    """A search in one graph, for one image: ``candidate`` is the engine, ``original`` the file's own graph.

    ``sizes`` computes what the graph knows about sizes. ``expected`` are the right values of ``output``.
    """

    def __init__(
        self,
        known: KnownTensors,
        candidate: EngineGraph,
        sizes: EngineGraph,
        inputs: Tensors,
        output: OutputRecord,
        expected: np.ndarray,
    ) -> None:
        self._known, self._candidate, self._sizes = known, candidate, sizes
        self._inputs, self._output, self._expected = inputs, output, expected
        self._probed: set[str] = set()
        self._seen: set[str] = set()  # those of the probed that have a value

    def find(self, original: ModelProto, types: dict[str, int]) -> Piece | None:
        """The smallest piece of ``original``; None if no piece is computed wrong by itself."""
        found = first_divergence(self._known.names, self._probe, self._output.allowed)
        # An engine that fuses nodes may compute a tensor right as soon as it alone is asked for.
        for end in dict.fromkeys([*([found.tensor] if found else []), self._output.name]):
            say(f"cutting the piece before {end}")
            place = self._place(end)
            if place is not None:
                return self._piece(original, types, *place)
        return None

    def _place(self, end: str) -> tuple[list[str], str] | None:
        """The tensors that are handed in and the one that comes out, as near to each other as the error allows.

        None if the whole graph up to ``end`` is computed right.
        """
        names = self._known.names
        before = [name for name in names[: names.index(end) if end in names else None] if name in self._available()]

        def fails(distrusted: Sequence[str]) -> bool:
            return self._error(before[: len(before) - len(distrusted)], end) is not None

        if not fails(before):
            return None
        given = before if fails(()) else before[: len(before) - shortest_prefix(before[::-1], fails)]
        ends = [*before[len(given) :], end]
        count = shortest_prefix(ends, lambda some: bool(some) and self._error(given, some[-1]) is not None)
        return given, ends[count - 1]

    def _piece(self, original: ModelProto, types: dict[str, int], given: Sequence[str], end: str) -> Piece:
        expected = self._right(end)
        cut = find_cut(original, end, set(given), types)
        values = self._values(cut)
        model = build_piece(original, cut, values, expected.shape, types)
        inputs = {name: values[name] for name in cut.inputs}
        return Piece(model, inputs, {end: expected}, self._error(given, end) or (0.0, 0.0), cut.inputs)

    def _right(self, name: str) -> np.ndarray:
        return self._known.values([name])[name] if name in self._known.names else self._expected

    def _available(self) -> set[str]:
        """The names that values are known for, a few at a time: all values together may not fit into memory."""
        rest = [name for name in self._known.names if name not in self._probed]
        for start in range(0, len(rest), _CHUNK):
            self._seen |= self._known.values(rest[start : start + _CHUNK]).keys()
        self._probed.update(rest)
        return self._seen

    def _probe(self, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        right = self._known.values(names)
        self._probed.update(names)
        self._seen |= right.keys()
        found = self._candidate.tensors(self._inputs, list(right))
        return {name: (found[name], right[name]) if name in right else (np.zeros(1), np.zeros(1)) for name in names}

    def _values(self, cut: Cut) -> Values:
        """The tensors that are handed in, and those that become constants."""
        images = {name: np.asarray(value) for name, value in self._inputs.items() if name in cut.inputs}
        right = self._known.values([name for name in cut.inputs if name not in images])
        return {**images, **right, **self._sizes.tensors(self._inputs, cut.constants)}

    def _error(self, given: Sequence[str], end: str) -> tuple[float, float] | None:
        """The error of the piece between ``given`` and ``end`` in the engine; None if it is allowed."""
        engine, expected = self._candidate, self._right(end)
        cut = find_cut(engine.model, end, set(given), engine.types)
        values = self._values(cut)
        piece = build_piece(engine.model, cut, values, expected.shape, engine.types)
        found = engine.run_piece(piece, {name: values[name] for name in cut.inputs})
        least = self._output.kind.full_scale if end == self._output.name else 0.0
        return error_of(found, expected, self._output, exact=engine.types[end] not in FLOATS, least=least)


def error_of(
    found: np.ndarray, expected: np.ndarray, output: OutputRecord, *, exact: bool, least: float = 0.0
) -> tuple[float, float] | None:
    """The largest and the mean error; None if they are allowed.

    Of ``exact`` values both are the share of those that differ. ``least`` is the range of values that are flatter.
    """
    allowed = output.allowed
    if found.shape != expected.shape:
        return float("inf"), float("inf")
    if exact:
        share = 1.0 - metrics.pixel_agreement(found, expected)
        return (share, share) if share > allowed.disagreement else None
    largest, mean = metrics.range_error(found, expected, least)
    return (largest, mean) if largest > allowed.max or mean > allowed.mean else None
