"""Types that all rooms share: specs, recipes, sizes, runners, errors, progress. NumPy and the standard library only."""
