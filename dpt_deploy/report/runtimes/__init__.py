"""Sections about runtimes: the C++ library, and engines on a GPU."""
