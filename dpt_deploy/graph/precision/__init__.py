"""Precision as a property of the graph: which tensors are FP16 or BF16, and which stay FP32 and why."""
