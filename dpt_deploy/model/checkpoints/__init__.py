"""Read, match, convert and fetch checkpoints."""
