"""Numbers of scenes: which ranges belong to what."""

TRAINING_SEEDS = range(1_000_000)  # of scenes; validation and studies draw from the seeds after these
