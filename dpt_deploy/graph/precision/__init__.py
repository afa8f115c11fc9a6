"""Precision as a rewrite of the graph: measure ranges, choose the FP32 nodes, type or quantise the rest."""
