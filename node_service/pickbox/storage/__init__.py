"""The storage part."""
