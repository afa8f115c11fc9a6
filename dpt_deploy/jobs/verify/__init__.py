"""Do two runners agree? Metrics, tolerances, the first tensor that diverges (NumPy only)."""
