"""Which blocks a quantised graph must leave alone to keep a budget of accuracy, at the least cost in speed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpt_deploy.artifact.records import WorthRecord
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.export.quantised import CalibrationTable, quantised
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.jobs.export.worth import TaskErrorBench

if TYPE_CHECKING:
    import onnx_ir as ir


def within_budget(
    graph: ir.Model,
    flavour: str,
    table: CalibrationTable,
    search: TaskErrorBench,
    verdict: TaskErrorBench,
    budget: float,
    folder: Path,
) -> CalibrationTable:
    """The table with as many more nodes kept as it takes to change the result by no more than ``budget``.

    Blocks are quantised one at a time to learn the noise that each makes; those with most noise for the operations they
    save are kept first. How many is found by bisection on the images of ``search``, which takes more noise from fewer
    blocks for granted. Those of ``verdict``, which chose nothing, have the last word: where they disagree, one block
    more is kept until they do not.

    Raises:
        ParityError: the budget cannot be met; the best that was found is told.
    """
    variants = _Variants(graph, flavour, table, folder)
    change = variants.change([], search)
    if change <= budget and (change := variants.change([], verdict)) <= budget:
        return table
    say(f"all of it quantised changes the result by {change:.2%}, more than {budget:.2%}: looking for what to keep")
    order = variants.by_harm(search)
    if (least := max(variants.change(order, bench) for bench in (search, verdict))) > budget:
        raise ParityError(
            f"{flavour} changes the result by {least:.2%} with every block left as it is; allowed are {budget:.2%}",
            hint="allow more, or export fp16",
        )
    low, high = -1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if variants.change(order[:middle], search) <= budget else (middle, high)
    while high < len(order) and (change := variants.change(order[:high], verdict)) > budget:
        say(f"{high} kept: images that chose nothing say {change:.2%}; one more")
        high += 1
    kept = order[:high]
    say(f"kept: {', '.join(kept)} ({high} of {len(order)} blocks)")
    reason = f"quantised, its block would change the result by more than {budget:.2%}"
    return replace(table, kept={**{name: reason for block in kept for name in variants.blocks[block]}, **table.kept})


class _Variants:
    """Graphs that are quantised but for some of their blocks, and what they are worth."""

    def __init__(self, graph: ir.Model, flavour: str, table: CalibrationTable, folder: Path) -> None:
        from dpt_deploy.graph.precision.qdq import targets

        self.graph, self.flavour, self.table, self.folder = graph, flavour, table, folder
        self.blocks: dict[str, list[str]] = {}
        for node in targets(graph):
            if node.name not in table.kept:
                self.blocks.setdefault(_block(node.name or ""), []).append(node.name or "")

    def change(self, kept: Sequence[str], bench: TaskErrorBench) -> float:
        """Of the result, with those blocks kept."""
        return self._worth(kept, bench).change

    def by_harm(self, bench: TaskErrorBench) -> list[str]:
        """The blocks, most noise per operation saved first."""
        from dpt_deploy.graph.analysis.opened import OpenedGraph
        from dpt_deploy.graph.analysis.operations import operations_of_nodes

        operations = operations_of_nodes(OpenedGraph(bench.full), bench.size)
        harm = {}
        for index, block in enumerate(self.blocks):
            worth = self._worth([other for other in self.blocks if other != block], bench)
            noise = 10.0 ** (-worth.sqnr / 10.0) if worth.sqnr is not None else worth.drift
            harm[block] = noise / max(1, sum(operations.get(name, 0) for name in self.blocks[block]))
            say(f"{index + 1}/{len(self.blocks)} {block}: {_told(worth)}")
        return sorted(harm, key=lambda block: -harm[block])

    def _worth(self, kept: Sequence[str], bench: TaskErrorBench) -> WorthRecord:
        nodes = {name: "" for block in kept for name in self.blocks[block]}
        model = quantised(self.graph, self.flavour, replace(self.table, kept={**self.table.kept, **nodes}))
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            path = Path(scratch) / "variant.onnx"
            save_graph(model, path)
            return bench.worth(path, find_precision(self.flavour).reference_runtime)


def _block(name: str) -> str:
    """What a node is kept with: its module's parent, or the module itself at the top."""
    module = name.rpartition("/")[0] or name
    return module.rpartition(".")[0] or module


def _told(worth: WorthRecord) -> str:
    return f"{worth.sqnr:.1f} dB" if worth.sqnr is not None else f"{worth.drift:.2%} of the labels"
