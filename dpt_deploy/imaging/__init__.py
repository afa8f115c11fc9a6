"""Pixels in, maps out: resampling, image rules, and files."""
