"""Procedural scenes with exact depth and labels: deterministic by seed, at any resolution, on CPU or GPU."""
