"""Releases that come after this one, made for tests: see `releases.make`."""
