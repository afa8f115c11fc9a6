"""Which blocks a quantised graph must leave alone to keep a budget of accuracy, at the least cost in speed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.record import WorthRecord
from dpt_deploy.workflow.precision import Talk, save_graph
from dpt_deploy.workflow.quantise import Table, quantised
from dpt_deploy.workflow.runners import RUNTIMES
from dpt_deploy.workflow.worth import Bench

if TYPE_CHECKING:
    import onnx_ir as ir


def within_budget(
    graph: ir.Model, flavour: str, table: Table, bench: Bench, budget: float, folder: Path, say: Talk
) -> Table:
    """The table with as many more nodes kept as it takes to change the result by no more than ``budget``.

    Blocks are quantised one at a time to learn the noise that each makes; those with most noise for the operations they
    save are kept first. How many is found by bisection, which takes more noise from fewer blocks for granted.

    Raises:
        ParityError: the budget cannot be met; the best that was found is told.
    """
    search = _Search(graph, flavour, table, bench, folder)
    if (change := search.change([])) <= budget:
        return table
    say(f"all of it quantised changes the result by {change:.2%}, more than {budget:.2%}: looking for what to keep")
    order = search.by_harm(say)
    low, high = 0, len(order)
    if (least := search.change(order)) > budget:
        raise ParityError(
            f"{flavour} changes the result by {least:.2%} with every block kept in 16 bits; allowed are {budget:.2%}",
            hint="allow more, or export fp16",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if search.change(order[:middle]) <= budget else (middle, high)
    kept = order[:high]
    say(f"kept: {', '.join(kept)} ({high} of {len(order)} blocks)")
    reason = f"quantised, its block would change the result by more than {budget:.2%}"
    return replace(table, kept={**{name: reason for block in kept for name in search.blocks[block]}, **table.kept})


class _Search:
    def __init__(self, graph: ir.Model, flavour: str, table: Table, bench: Bench, folder: Path) -> None:
        from dpt_deploy.graph.precision.qdq import targets

        self.graph, self.flavour, self.table, self.bench, self.folder = graph, flavour, table, bench, folder
        self.blocks: dict[str, list[str]] = {}
        for node in targets(graph):
            if node.name not in table.kept:
                self.blocks.setdefault(_block(node.name or ""), []).append(node.name or "")

    def change(self, kept: Sequence[str]) -> float:
        """Of the result, with those blocks kept."""
        return self._worth(kept).change

    def by_harm(self, say: Talk) -> list[str]:
        """The blocks, most noise per operation saved first."""
        operations = self._operations()
        harm = {}
        for index, block in enumerate(self.blocks):
            worth = self._worth([other for other in self.blocks if other != block])
            noise = 10.0 ** (-worth.sqnr / 10.0) if worth.sqnr is not None else worth.drift
            harm[block] = noise / max(1, sum(operations.get(name, 0) for name in self.blocks[block]))
            say(f"{index + 1}/{len(self.blocks)} {block}: {_told(worth)}")
        return sorted(harm, key=lambda block: -harm[block])

    def _operations(self) -> dict[str, int]:
        from dpt_deploy.graph.operations import operations_of_nodes

        return operations_of_nodes(self.bench.full, self.bench.size)

    def _worth(self, kept: Sequence[str]) -> WorthRecord:
        nodes = {name: "" for block in kept for name in self.blocks[block]}
        model = quantised(self.graph, self.flavour, replace(self.table, kept={**self.table.kept, **nodes}))
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            path = Path(scratch) / "variant.onnx"
            save_graph(model, path)
            return self.bench.worth(path, RUNTIMES[self.flavour])


def _block(name: str) -> str:
    """What a node is kept with: its module's parent, or the module itself at the top."""
    module = name.rpartition("/")[0] or name
    return module.rpartition(".")[0] or module


def _told(worth: WorthRecord) -> str:
    return f"{worth.sqnr:.1f} dB" if worth.sqnr is not None else f"{worth.drift:.2%} of the labels"
