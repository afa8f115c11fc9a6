"""Choose the blocks that a quantised graph leaves alone to keep a budget of accuracy, at the least cost in speed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from dpt_deploy.artifact.records import AccuracyRecord
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import operations_of_nodes
from dpt_deploy.graph.naming import module_of
from dpt_deploy.graph.precision.attention import attentions
from dpt_deploy.graph.precision.qdq import quantised_format, targets
from dpt_deploy.jobs.export.accuracy import AccuracyBench
from dpt_deploy.jobs.export.quantised import CalibrationTable, quantised
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.jobs.verify.search import shortest_prefix


def within_budget(
    graph: ir.Model,
    precision: str,
    table: CalibrationTable,
    search: AccuracyBench,
    held_out: AccuracyBench,
    budget: float,
    folder: Path,
) -> CalibrationTable:
    """Keep as many more nodes of ``table`` as it takes to change the result by at most ``budget``, a share.

    Each block is quantised alone to measure its noise. Blocks with the most noise for the operations that they save are
    kept first. Bisection on the images of ``search`` finds how many; it assumes that fewer kept blocks make more noise.
    The result is checked on the images of ``held_out``. While it exceeds the budget there, one more block is kept
    unquantised.

    Raises:
        ParityError: the budget cannot be met; the message has the smallest change found.
    """
    variants = _Variants(graph, precision, table, folder)
    change = variants.change([], search)
    if change <= budget and (change := variants.change([], held_out)) <= budget:
        return table
    say(f"all of it quantised changes the result by {change:.2%}, more than {budget:.2%}: choosing blocks to keep")
    order = variants.by_harm(search)
    if (least := max(variants.change(order, bench) for bench in (search, held_out))) > budget:
        raise ParityError(
            f"{precision} changes the result by {least:.2%} with every block left unquantised; allowed are "
            f"{budget:.2%}",
            hint="allow more with --budget, or export fp16",
        )
    high = shortest_prefix(order, lambda kept: variants.change(kept, search) <= budget)
    while high < len(order) and (change := variants.change(order[:high], held_out)) > budget:
        say(f"{high} blocks kept: the result changes by {change:.2%} on held-out images; keeping one more")
        high += 1
    kept = order[:high]
    say(f"kept: {', '.join(kept)} ({high} of {len(order)} blocks)")
    reason = f"quantised, its block would change the result by more than {budget:.2%}"
    return replace(table, kept={**{name: reason for block in kept for name in variants.blocks[block]}, **table.kept})


class _Variants:
    """Graphs with some blocks left unquantised, and their accuracy."""

    def __init__(self, graph: ir.Model, precision: str, table: CalibrationTable, folder: Path) -> None:
        self.graph, self.precision, self.table, self.folder = graph, precision, table, folder
        self.blocks: dict[str, list[str]] = {}
        blocks = {str(node.name): _block(str(node.name)) for node in targets(graph)}
        if quantised_format(precision).scores:  # attention belongs to the block of its projections
            blocks |= {str(node.name): module_of(str(node.name)) for node in attentions(graph)}
        for name, block in blocks.items():
            if name not in table.kept:
                self.blocks.setdefault(block, []).append(name)

    def change(self, kept: Sequence[str], bench: AccuracyBench) -> float:
        """Measure the change of the result with the blocks ``kept`` left unquantised."""
        return self._accuracy(kept, bench).change

    def by_harm(self, bench: AccuracyBench) -> list[str]:
        """Sort the blocks by noise per operation saved, most first."""
        operations = operations_of_nodes(OpenedGraph(bench.full), bench.size)
        harm = {}
        for index, block in enumerate(self.blocks):
            found = self._accuracy([other for other in self.blocks if other != block], bench)
            sqnr = found.least_sqnr
            noise = 10.0 ** (-sqnr / 10.0) if sqnr is not None else found.drift
            harm[block] = noise / max(1, sum(operations.get(name, 0) for name in self.blocks[block]))
            measured = f"{sqnr:.1f} dB" if sqnr is not None else f"{found.drift:.2%} of the labels"
            say(f"{index + 1}/{len(self.blocks)} {block}: {measured}")
        return sorted(harm, key=lambda block: -harm[block])

    def _accuracy(self, kept: Sequence[str], bench: AccuracyBench) -> AccuracyRecord:
        nodes = {name: "" for block in kept for name in self.blocks[block]}
        model = quantised(self.graph, self.precision, replace(self.table, kept={**self.table.kept, **nodes}))
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            path = Path(scratch) / "variant.onnx"
            save_graph(model, path)
            return bench.compare(path, find_precision(self.precision).reference_runtime)


def _block(name: str) -> str:
    """Name the block of a node: its module's parent, or the module itself at the top level."""
    module = module_of(name)
    return module.rpartition(".")[0] or module
