"""Pool integers: round in front of a MaxPool instead of behind it.

The largest of rounded numbers is the largest number, rounded, so nothing changes. OpenVINO then pools bytes.
"""

from __future__ import annotations

import onnx_ir as ir


def pool_integers(model: ir.Model) -> int:
    """Move the rounding of pooled maps in front of the pool (``model`` is quantised, and changed in place).

    Returns the number of pools. One whose output has another reader is left as it is.
    """
    found = 0
    for pool in [node for node in model.graph if node.op_type == "MaxPool"]:
        quantise = _only_reader(pool, "QuantizeLinear")
        restore = _only_reader(quantise, "DequantizeLinear") if quantise is not None else None
        if quantise is None or restore is None:
            continue
        for use in list(restore.outputs[0].uses()):
            use.node.replace_input_with(use.idx, pool.outputs[0])
        quantise.replace_input_with(0, pool.inputs[0])
        pool.replace_input_with(0, restore.outputs[0])
        model.graph.remove((quantise, restore))
        model.graph.insert_before(pool, (quantise, restore))
        found += 1
    return found


def _only_reader(node: ir.Node, kind: str) -> ir.Node | None:
    """Return the only reader of a node's output if it is of this kind."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind and not output.is_graph_output() else None
