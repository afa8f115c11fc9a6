"""From a module to an ONNX file: export, rewrites, lint, description (onnx, onnxscript)."""
