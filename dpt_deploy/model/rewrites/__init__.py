"""Rewrites of a built network before export."""
