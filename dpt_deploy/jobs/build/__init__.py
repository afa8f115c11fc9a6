"""Build TensorRT engines from exported models. ``request`` and ``refit.same_graph`` read graphs, which needs onnx."""
