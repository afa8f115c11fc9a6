"""Measurements: interleaved timing, memory, metrics and intervals (NumPy only)."""
