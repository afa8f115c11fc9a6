"""What every stage speaks: specs, recipes, artefacts, runners, errors. NumPy and the standard library only."""
