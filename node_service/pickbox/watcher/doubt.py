"""After a loss of power: what the folder holds where it was written to lately is nobody's word.

A file that was placed and not synced may be missing, empty or old by then, while its row survived;
a file that was removed may be back. Taken for a person's doing, that would delete or overwrite
acknowledged content everywhere. So each path that the log's entries since the last snapshot touched
is booked as it is found: known, and of no version. The placer then makes it what the catalog says,
and what it takes away is kept in ``versions/``.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pickbox.changes import ABSENT, Delete, Kind, Move
from pickbox.known import KnownState, kind_of
from pickbox.storage.digest import digest_bytes
from pickbox.watcher.content import ChangedWhileRead, read_digest
from pickbox.watcher.reconcile import says_the_same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pickbox.changes import Submission
    from pickbox.seams import CatalogReader, StateManager
    from pickbox.storage.tree import FileTree

log = logging.getLogger(__name__)


class Doubts:
    """Paths that the log's entries since the last snapshot touched."""

    def __init__(self, tree: FileTree, state: StateManager, catalog: CatalogReader) -> None:
        self._tree = tree
        self._state = state
        self._catalog = catalog
        self._paths: set[bytes] = set()
        self._directories: set[bytes] = set()

    def note(self, submissions: Sequence[Submission], outcomes: Sequence[bytes]) -> None:
        """An entry of the log made these changes; `outcomes` are the paths of their results."""
        self._paths.update(outcomes)
        for submission in submissions:
            for change in submission.changes:
                self._paths.add(change.path)
                if isinstance(change, Move):
                    self._directories.update((change.path, change.destination))
                elif isinstance(change, Delete) and change.recursive:
                    self._directories.add(change.path)

    def settle(self) -> int:
        """Book all of them as they are found; return how many were not what the catalog says."""
        rows: list[KnownState] = []
        gone: list[KnownState] = []
        wrong = 0
        for path in sorted(self._in_doubt()):
            found = self._look(path)
            if found is None:
                known = self._state.get(path)
                gone += [] if known is None else [known]
                wrong += self._catalog.get(path) is not None
            else:
                rows.append(found)
                wrong += found.version == ABSENT
        self._state.put(rows)
        self._state.forget(gone)
        if rows or gone:
            fields = {"paths": len(rows) + len(gone), "wrong": wrong}
            log.warning("folder_in_doubt", extra={"fields": fields})
        return wrong

    def _in_doubt(self) -> set[bytes]:
        paths = set(self._paths)
        for directory in self._directories:
            paths.update(entry.path for entry in self._catalog.under(directory))
            paths.update(row.path for row in self._state.under(directory))
            paths.update(self._on_disk(directory))
        return paths

    def _on_disk(self, directory: bytes) -> Iterator[bytes]:
        stat = self._tree.lstat(directory)
        if stat is None:
            return
        yield directory
        if kind_of(stat) is Kind.DIRECTORY:
            for name in self._tree.names(directory):
                yield from self._on_disk(os.path.join(directory, name))

    def _look(self, path: bytes) -> KnownState | None:
        """What is at `path`, as a row: of the catalog's version if it is that, else of none."""
        stat = self._tree.lstat(path)
        if stat is None or kind_of(stat) is None:
            return None
        digest = b""
        if kind_of(stat) is Kind.SYMLINK:
            digest = digest_bytes(self._tree.read_link(path))
        elif kind_of(stat) is Kind.FILE:
            try:
                with self._tree.open_file(path) as file:
                    content = read_digest(file)
            except (ChangedWhileRead, OSError):
                return None  # it is being written: the watcher looks when it has settled
            stat, digest = content.stat, content.digest
        row = KnownState.of(path, stat, digest, ABSENT)
        entry = self._catalog.get(path)
        if entry is not None and says_the_same(entry, row):
            return KnownState.of(path, stat, digest, entry.version)
        return row
