"""Real data: readers of the data sets that the paper evaluates on, their protocols, and the paper's numbers."""
