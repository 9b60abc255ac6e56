"""The full scan: disk, known state and catalog side by side, in one pass.

All three come in the order of path bytes and are merged as they stream by, so memory does not grow
with the folder. Only paths where the three differ are marked.
"""

from __future__ import annotations

import logging
import os
import stat as st
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pickbox.changes import Kind
from pickbox.failpoints import failpoint
from pickbox.known import kind_of
from pickbox.storage.paths import RESERVED_NAME, display
from pickbox.watcher.content import is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pickbox.changes import Entry
    from pickbox.known import KnownState
    from pickbox.seams import CatalogReader, StateManager
    from pickbox.watcher.dirty import DirtySet
    from pickbox.watcher.guard import DeleteGuard
    from pickbox.watcher.ignore import IgnoreRules

log = logging.getLogger(__name__)

_AFTER_ALL: Final = b"\xff" * 4097
"""Sorts after every path."""

Identity = tuple[int, int, int]


@dataclass(slots=True)
class Walk:
    """Everything below `root` in the order of path bytes, without the node's own directory.

    Attributes:
        directories: how many directories were seen, `root` and ignored ones too.
        unreadable: directories whose contents are not known.
    """

    root: bytes
    directories: int = 0
    unreadable: list[bytes] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result]]:
        stack = [iter(self._list(b""))]
        while stack:
            for path, stat in stack[-1]:
                if stat is None:
                    stack.append(iter(self._list(path[:-1])))
                    break
                yield path, stat
            else:
                stack.pop()

    def _list(self, directory: bytes) -> list[tuple[bytes, os.stat_result | None]]:
        """What is in `directory`; a directory in it comes twice, with and without its stat.

        The second time stands for what is below it. It ends in a slash, which is where those
        paths sort: ``a``, ``a.txt``, ``a/b``.
        """
        self.directories += 1
        prefix = directory + b"/" if directory else b""
        found: list[tuple[bytes, os.stat_result | None]] = []
        try:
            with os.scandir(os.path.join(self.root, directory)) as entries:
                for entry in entries:
                    path = prefix + entry.name
                    if path == RESERVED_NAME:
                        self.directories += 1  # it is watched like the others
                        continue
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.append((path, stat))
                    if st.S_ISDIR(stat.st_mode):
                        found.append((path + b"/", None))
        except OSError as error:
            if not is_gone(error):
                fields = {"path": display(directory), "why": str(error)}
                log.warning("directory_unreadable", extra={"fields": fields})
            self.unreadable.append(prefix)  # its events, or the next scan, tell what became of it
        found.sort(key=itemgetter(0))
        return found

    def knows(self, path: bytes) -> bool:
        """Whether it is known what is at `path`."""
        return not any(path.startswith(prefix) for prefix in self.unreadable)


@dataclass(slots=True)
class ScanResult:
    """What a scan found. `directories` as in `Walk`; `marked` counts paths made dirty."""

    directories: int = 0
    marked: int = 0
    held: int = 0


class Scanner:
    """Runs full scans."""

    def __init__(
        self,
        root: bytes,
        state: StateManager,
        catalog: CatalogReader,
        rules: IgnoreRules,
        guard: DeleteGuard,
        dirty: DirtySet,
    ) -> None:
        self._root = root
        self._state = state
        self._catalog = catalog
        self._rules = rules
        self._guard = guard
        self._dirty = dirty

    def scan(self) -> ScanResult:
        """Mark every path where disk, known state and catalog differ.

        Raises:
            OSError, sqlite3.Error: the folder or the databases cannot be read at all.
        """
        walk, result = Walk(self._root), ScanResult()
        missing: list[KnownState] = []
        appeared: set[Identity] = set()
        for path, stat, row, entry in self._side_by_side(walk):
            failpoint("scan_mid")
            if stat is not None:
                if self._is_news(path, stat, row, entry):
                    self._dirty.mark(path)
                    result.marked += 1
                    if row is None:
                        appeared.add(_identity(stat))
            elif walk.knows(path):
                if row is not None and entry is not None and row.version >= entry.version:
                    missing.append(row)
                else:
                    self._dirty.mark(path)
                    result.marked += 1
        if b"" in walk.unreadable:
            raise OSError(f"{display(self._root)} cannot be read")
        cleared = self._judge(missing, appeared)
        for path in cleared:
            self._dirty.mark(path)
        result.directories = walk.directories
        result.marked += len(cleared)
        result.held = self._guard.held().count
        return result

    def _side_by_side(
        self, walk: Walk
    ) -> Iterator[tuple[bytes, os.stat_result | None, KnownState | None, Entry | None]]:
        """One item a path: what each of the three has there."""
        disk, rows, entries = iter(walk), self._state.under(b""), self._catalog.under(b"")
        on_disk, row, entry = next(disk, None), next(rows, None), next(entries, None)
        while on_disk is not None or row is not None or entry is not None:
            path = min(
                on_disk[0] if on_disk is not None else _AFTER_ALL,
                row.path if row is not None else _AFTER_ALL,
                entry.path if entry is not None else _AFTER_ALL,
            )
            here = on_disk if on_disk is not None and on_disk[0] == path else None
            known = row if row is not None and row.path == path else None
            agreed = entry if entry is not None and entry.path == path else None
            yield path, here[1] if here else None, known, agreed
            if here is not None:
                on_disk = next(disk, None)
            if known is not None:
                row = next(rows, None)
            if agreed is not None:
                entry = next(entries, None)

    def _is_news(
        self,
        path: bytes,
        stat: os.stat_result,
        row: KnownState | None,
        entry: Entry | None,
    ) -> bool:
        if row is not None and row.matches(stat):
            return entry is None or entry.version > row.version
        kind = kind_of(stat)
        if kind is None:
            return False
        return not self._rules.ignores(path, is_directory=kind is Kind.DIRECTORY)

    def _judge(self, missing: list[KnownState], appeared: set[Identity]) -> set[bytes]:
        """Have the guard decide which of the missing paths may be deleted."""
        unseen = [
            row
            for row in missing
            if not self._dirty.explains(row.path)
            and not self._rules.ignores(row.path, is_directory=row.kind is Kind.DIRECTORY)
            and self._state.get(row.path) is not None  # deleted and answered since it was passed
        ]
        renamed = [row.path for row in unseen if _former_identity(row) in appeared]
        paths = [row.path for row in unseen]
        return self._guard.judge(paths, renamed=renamed, known=self._state.count())


def _identity(stat: os.stat_result) -> Identity:
    if st.S_ISDIR(stat.st_mode):
        return stat.st_ino, 0, 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _former_identity(row: KnownState) -> Identity:
    if row.kind is Kind.DIRECTORY:
        return row.inode, 0, 0
    return row.inode, row.size, row.mtime_ns
