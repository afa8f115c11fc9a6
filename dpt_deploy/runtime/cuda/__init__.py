"""The CUDA driver and device arrays."""
