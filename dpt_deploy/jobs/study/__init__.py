"""Measure accuracy against inference resolution, and precisions against each other.

The analysis needs NumPy only. Modules that render scenes, export or run models need extras and say so when imported.
"""
