"""Folders for reports of defects to the makers of an engine."""
