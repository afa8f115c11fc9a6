"""Variants of a quantised graph that leave activations unrounded."""

import onnx_ir as ir
from support.tiny import exported

from dpt_deploy.graph.precision.attention import split_projections
from dpt_deploy.graph.precision.bypass import bypass, pairs, quantised_nodes
from dpt_deploy.graph.precision.qdq import ends, quantise, watched


def test_a_variant_in_floats_reads_nothing_rounded():
    model = ir.load(exported("tiny-hybrid").path)
    quantise(model, "int8-openvino", dict.fromkeys(watched(model, scores=True), 3.0), ends(model, image=True))
    split_projections(model)
    written = ir.to_proto(model)
    restored = {pair.restored for pair in pairs(written)}
    bypass(written, [node.name for node in quantised_nodes(written)], outputs=False)
    assert restored
    assert [node.name for node in written.graph.node if restored.intersection(node.input)] == []
