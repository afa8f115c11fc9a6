"""Real data: readers of the sets the paper evaluates on, their protocols, and the paper's own numbers."""
