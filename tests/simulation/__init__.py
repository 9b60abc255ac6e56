"""Deterministic simulation: whole clusters in one thread, on a fake clock, from one seed."""
