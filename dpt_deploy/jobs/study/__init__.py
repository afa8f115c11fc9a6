"""What is a model worth? Rendered scenes, training, data sets, accuracy against resolution (torch, matplotlib)."""
