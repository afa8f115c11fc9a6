"""Rewrites of a built network before export: exact ones, and approximate ones on request."""
