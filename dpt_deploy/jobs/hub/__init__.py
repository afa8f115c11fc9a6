"""Folders that the Hugging Face hub, optimum and transformers.js read."""
