"""Pickbox keeps one directory identical on every node of a cluster."""

__version__ = "0.1.0"
