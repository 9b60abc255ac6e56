"""Faults on real processes, and the checks that judge what a cluster answered meanwhile."""
