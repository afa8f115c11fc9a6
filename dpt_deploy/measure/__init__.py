"""How fast is it? Interleaved timing with intervals (NumPy only)."""
