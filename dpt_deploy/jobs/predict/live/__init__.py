"""Cameras and streams, as they come (``run --camera``)."""
