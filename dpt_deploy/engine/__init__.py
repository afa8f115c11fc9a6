"""From a typed ONNX graph to a TensorRT engine: profiles, preflight, build, audit."""
