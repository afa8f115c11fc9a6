"""The context of one shape of an engine, with the graphs captured in it. Experimental: run on one GPU so far."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dpt_deploy.runtime.cuda.driver import Graph

KEPT_GRAPHS = 8  # per shape: one per slot, and those of callers that run between the same arrays repeatedly
Shapes = tuple[tuple[int, ...], ...]  # of the outputs, in the engine's order


class Lane:
    """The context of one shape and its captured graphs.

    A graph contains the addresses that it was captured with. ``graphs`` holds them by the addresses of the input and of
    each output; the value is None after the first run, which is not captured.
    """

    def __init__(self, context: Any, output_shapes: Shapes) -> None:
        self.context, self.output_shapes = context, output_shapes
        self.graphs: OrderedDict[tuple[int, ...], Graph | None] = OrderedDict()

    def keep(self, addresses: tuple[int, ...], graph: Graph | None) -> None:
        """Store a graph; the least recently used one is closed if there are too many."""
        self.graphs[addresses] = graph
        self.graphs.move_to_end(addresses)
        while len(self.graphs) > KEPT_GRAPHS:
            old = self.graphs.popitem(last=False)[1]
            if old is not None:
                old.close()

    def close(self) -> None:
        for graph in self.graphs.values():
            if graph is not None:
                graph.close()
        self.graphs.clear()
