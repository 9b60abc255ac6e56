"""Putting files into the folder and taking them out without losing an edit that is on its way."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from pickbox.changes import Kind
from pickbox.replication.conflicts import conflict_name
from pickbox.storage.leases import has_writer
from pickbox.storage.placement import ChangedMeanwhile, install, take_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import stat_result

    from pickbox.known import KnownState
    from pickbox.storage.tree import FileTree

log = logging.getLogger(__name__)


class StillOpen(Exception):
    """Somebody has the file open for writing, and is waited for."""


class Swaps:
    """`install` and `take_out` for one folder; used by one thread.

    A file that somebody has open for writing stays: what is written to it next would be in no
    folder, or under a digest that is not its own.

    Args:
        node_id: names the files of edits that are set aside.
        limit: how long (seconds) an open file that nobody writes is waited for; then it goes.
    """

    def __init__(self, tree: FileTree, node_id: str, limit: float) -> None:
        self._tree = tree
        self._node_id = node_id
        self._limit = limit
        self._open: dict[bytes, tuple[KnownState, float]] = {}  # since when, as what

    def await_writer(self, known: KnownState) -> bool:
        """Look whether somebody has the file that is `known` open for writing.

        Returns:
            Whether somebody has, and was waited for long enough.

        Raises:
            StillOpen: somebody has it open.
        """
        if not self._has_writer(known):
            self._open.pop(known.path, None)
            return False
        as_what, since = self._open.get(known.path, (None, 0.0))
        if as_what != known:  # it was not open before, or has been written since
            since = time.monotonic()
            self._open[known.path] = known, since
            fields = {"path": known.path, "seconds": self._limit}
            log.info("placement_waits_for_writer", extra={"fields": fields})
        if time.monotonic() - since < self._limit:
            raise StillOpen(known.path)
        return True

    def install(self, staged: bytes, path: bytes, expected: KnownState | None) -> stat_result:
        """`pickbox.storage.placement.install`; raises `StillOpen` too."""
        despite_writer = expected is not None and self.await_writer(expected)
        with self._nothing_goes_astray():
            return install(self._tree, staged, path, expected, despite_writer=despite_writer)

    def take_out(self, expected: KnownState, destination: bytes) -> None:
        """`pickbox.storage.placement.take_out`; raises `StillOpen` too."""
        despite_writer = self.await_writer(expected)
        with self._nothing_goes_astray():
            take_out(
                self._tree, expected.path, expected, destination, despite_writer=despite_writer
            )

    def _has_writer(self, known: KnownState) -> bool:
        if known.kind is not Kind.FILE:
            return False
        try:
            with self._tree.open_file(known.path) as file:
                return has_writer(file) is True
        except OSError:
            return False  # it is unreadable, or not there any more: the swap finds out

    @contextlib.contextmanager
    def _nothing_goes_astray(self) -> Iterator[None]:
        """An edit that was taken out and cannot go back to its place goes beside it.

        That takes two edits within the microseconds of a placement; the watcher takes both in.
        """
        try:
            yield
        except ChangedMeanwhile as changed:
            if changed.stray is not None:
                log.warning("edit_set_aside", extra={"fields": {"path": changed.path}})
                name = conflict_name(changed.path, time.time_ns() // 1_000_000, self._node_id)
                install(self._tree, changed.stray, name, None)
            raise
