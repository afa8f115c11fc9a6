"""The reference network and its weights (PyTorch, timm)."""
