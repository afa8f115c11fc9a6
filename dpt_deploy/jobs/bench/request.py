"""Options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.candidates import ORT, reference_name
from dpt_deploy.measure.timing import MAX_ROUNDS


@dataclass(frozen=True)
class BenchRequest:
    """Options of one benchmark.

    Attributes:
        sizes: network input sizes.
        batches: batch sizes; every size is timed at every batch.
        candidates: names of what is timed.
        device: where PyTorch computes, ``cpu`` or ``cuda``; empty: ``cuda`` for an engine, else ``cpu``. On the GPU it
            computes in the type of the artefact.
        seconds: time limit for each size and batch.
        rounds: maximum runs per candidate; halved and rounded up for each order of opening.
        photograph: image file whose way to its depth map is timed too, step by step, at batch 1; None: not timed.
        memory: measure the peak memory of each candidate after the timing, in a fresh process.
    """

    sizes: tuple[Size, ...]
    batches: tuple[int, ...] = (1,)
    candidates: tuple[str, ...] = ("torch", ORT)
    device: str = ""
    seconds: float = 60.0
    rounds: int = MAX_ROUNDS
    photograph: Path | str | None = None
    memory: bool = False

    @property
    def cases(self) -> tuple[tuple[Size, int], ...]:
        """Every size at every batch."""
        return tuple(product(self.sizes, self.batches))

    @property
    def reference(self) -> str:
        """Name of the candidate that ratios refer to."""
        return reference_name(self.candidates)
