"""Build TensorRT engines from exported models."""
