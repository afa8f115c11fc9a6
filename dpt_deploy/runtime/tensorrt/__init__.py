"""TensorRT engines on the GPU."""
