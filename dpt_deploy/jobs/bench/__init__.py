"""Time an artefact's candidates against each other."""
