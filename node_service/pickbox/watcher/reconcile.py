"""The one way in: `Reconciler.look` compares the disk, what was known, and the catalog.

Events, scans and the placer say where to look, never what happened; what is found at a path depends
on nothing but the three. An echo (the catalog's own content, placed here a moment ago) is told by
content, never by time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from pickbox.changes import ABSENT, Delete, Kind, Put
from pickbox.errors import InvalidPath
from pickbox.known import KnownState, Revision, kind_of
from pickbox.storage.digest import digest_bytes
from pickbox.storage.paths import check_path
from pickbox.storage.tree import MODE_WHILE_MADE
from pickbox.watcher.content import ChangedWhileRead, read_inline, same_state
from pickbox.watcher.ignore import IGNORE_FILE

if TYPE_CHECKING:
    from pickbox.changes import Entry
    from pickbox.seams import CatalogReader, Placer, StateManager
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.dirty import Dirty
    from pickbox.watcher.ignore import IgnoreRules
    from pickbox.watcher.metrics import WatcherMetrics
    from pickbox.watcher.settle import Settling


CHANGING: Final = 0.1
"""Seconds after which a file is read again that was written while it was read."""

_TIME_LIMIT: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wait:
    """The path is not ready: look again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The path cannot be taken in. `again` is False if only a change of it can help."""

    cause: str
    reason: str
    again: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change to propose. `row` is what to remember of the disk once a `Put` is answered."""

    change: Put | Delete
    item: Dirty
    row: KnownState | None = None


@dataclass(frozen=True, slots=True)
class Large:
    """A file too large to be read here: it wants hashing and staging first.

    Attributes:
        stat: the disk as it was when the file was found settled.
        digest: the content's digest if it is known (a renamed file), else empty.
    """

    item: Dirty
    stat: os.stat_result
    digest: bytes


Found: TypeAlias = Wait | Failed | Proposal | Large | None


class Reconciler:
    """Looks at paths. Adopts echoes and asks for placement itself; the rest it returns."""

    def __init__(
        self,
        tree: FileTree,
        state: StateManager,
        catalog: CatalogReader,
        placer: Placer,
        rules: IgnoreRules,
        settling: Settling,
        metrics: WatcherMetrics,
        *,
        inline_limit: int,
        max_file_size: int,
    ) -> None:
        self._tree = tree
        self._state = state
        self._catalog = catalog
        self._placer = placer
        self._rules = rules
        self._settling = settling
        self._metrics = metrics
        self._inline_limit = inline_limit
        self._max_file_size = max_file_size

    def look(
        self,
        item: Dirty,
        stat: os.stat_result,
        row: KnownState | None,
        renamed: KnownState | None,
    ) -> Found:
        """Look at a path that is on the disk as `stat` says.

        Args:
            row: what was known of it before.
            renamed: the row of the path that this file had before, if it is known.
        """
        path, kind = item.path, kind_of(stat)
        if kind is None:
            self._metrics.skipped()
            return None
        if self.ignores(path, stat):
            return None
        if row is not None and row.matches(stat):
            self._unchanged(row)
            return None
        try:
            check_path(path)
        except InvalidPath as error:
            return Failed("invalid-path", f"{error.rule}: {error.detail}", again=False)
        if kind is Kind.DIRECTORY:
            return self.decide(item, stat, b"")
        if kind is Kind.SYMLINK:
            target = self._tree.read_link(path)
            return self.decide(item, stat, digest_bytes(target), target=target)
        return self._file(item, stat, renamed)

    def look_at_nothing(self, item: Dirty) -> Proposal | None:
        """Look at a path that is not on the disk; the proposal is subject to the guards.

        A person has deleted what the row says if the row was there before the disk was looked at,
        and the catalog has nothing newer after: the placer removes only what the catalog replaces.
        So the disk is looked at again, lest a row be taken that was written since the first time.
        """
        path = item.path
        self._settling.forget(path)
        row = self._state.get(path)
        if self._tree.lstat(path) is not None:
            self._placer.request([path])  # it marks the path if that is not its own doing
            return None
        entry = self._catalog.get(path)
        known = row or entry
        was_directory = known is not None and known.kind is Kind.DIRECTORY
        if self._rules.ignores(path, is_directory=was_directory):
            return None
        if row is None:
            if entry is not None:
                self._placer.request([path])
            return None
        if entry is None or entry.version > row.version:
            # Deleted elsewhere too; or changed elsewhere, and an edit beats a delete.
            self._state.forget([row])
            if entry is not None:
                self._placer.request([path])
            return None
        return Proposal(Delete(path, base=row.version), item, row)

    def _is_still(self, path: bytes, stat: os.stat_result) -> bool:
        """Whether the disk is as it was looked at, and not half placed.

        Mode and time are set one after the other, and a directory is made before it gets its mode.
        """
        now = self._tree.lstat(path)
        if now is None or now.st_mode != stat.st_mode or now.st_ino != stat.st_ino:
            return False
        # What is put into a directory changes its times.
        return kind_of(now) is Kind.DIRECTORY or same_state(now, stat)

    def ignores(self, path: bytes, stat: os.stat_result) -> bool:
        """Whether the rules leave alone what is on the disk at `path`."""
        return self._rules.ignores(path, is_directory=kind_of(stat) is Kind.DIRECTORY)

    def refresh_rules(self, path: bytes) -> bool:
        """Read the ignore rules again if `path` is their file; return whether they changed."""
        return path == IGNORE_FILE and self._rules.refresh(self._tree)

    def renamed_from(self, stat: os.stat_result) -> list[KnownState]:
        """Rows that say that the file of `stat` is known under another path.

        Size and modification time have to agree too: inode numbers are used again.
        """
        return [
            row
            for row in self._state.with_inode(stat.st_ino)
            if row.kind is kind_of(stat)
            and row.kind is not Kind.DIRECTORY
            and row.size == stat.st_size
            and row.mtime_ns == stat.st_mtime_ns
        ]

    def decide(
        self,
        item: Dirty,
        stat: os.stat_result,
        digest: bytes,
        *,
        target: bytes = b"",
        inline: bytes | None = None,
    ) -> Proposal | None:
        """Compare what was read with the catalog: an echo, news about nothing, or a change.

        It is a person's unless this node has put it there. What was placed before it was read is in
        hand, or in the row or announced; what is placed later changes the disk. Hence the order:
        in hand, then row and announcement at once, then the catalog, and the disk again at last.
        The row's version is the one that this content was made on: as long as the two differ, the
        placer replaces nothing.
        """
        path = item.path
        if self._placer.has_in_hand(path):
            self._placer.request([path])  # it marks the path if that is not its own doing
            return None
        row, placed = self._state.look_up(path)
        entry = self._catalog.get(path)
        now = KnownState.of(path, stat, digest, row.version if row else ABSENT)
        version = _placed_version(now, row, placed, entry)
        if version is not None:
            self._adopt(now, version)
            return None
        if not self._is_still(path, stat):
            self._placer.request([path])
            return None
        put = Put(
            path,
            now.kind,
            now.size,
            now.mode,
            replicated_time(now.mtime_ns),
            digest,
            target=target,
            inline=inline,
            base=now.version,
        )
        return Proposal(put, item, now)

    def _file(self, item: Dirty, stat: os.stat_result, renamed: KnownState | None) -> Found:
        with self._tree.open_file(item.path) as file:
            stat = os.fstat(file.fileno())
            if stat.st_size > self._max_file_size:
                reason = f"too-large: {stat.st_size} bytes; max_file_size is {self._max_file_size}"
                return Failed("too-large", reason, again=False)
            wait = self._settling.wait_for(item.path, file, stat)
            if wait:
                return Wait(wait)
            if stat.st_size > self._inline_limit:
                return Large(item, stat, renamed.digest if renamed else b"")
            try:
                content = read_inline(file)
            except ChangedWhileRead:
                return Wait(CHANGING)
        return self.decide(item, content.stat, content.digest, inline=content.inline)

    def _adopt(self, now: KnownState, version: int) -> None:
        """Note that what is on the disk is what was placed as `version`; nobody has changed it."""
        row = replace(now, version=version)
        if self._state.revise([Revision(row.path, now.version, row)]):
            self._placer.request([row.path])  # something was placed since
        else:
            self._unchanged(row)

    def _unchanged(self, row: KnownState) -> None:
        """Nothing happened here; where the catalog is ahead, the placer is asked.

        Versions only grow, so a catalog with an older one is a copy that has yet to catch up.
        """
        entry = self._catalog.get(row.path)
        if entry is None or entry.version > row.version:
            self._placer.request([row.path])


def replicated_time(mtime_ns: int) -> int:
    """`mtime_ns` as a change carries it, in 64 bits: file systems know years beyond 2262."""
    return max(-_TIME_LIMIT, min(mtime_ns, _TIME_LIMIT))


def says_the_same(entry: Entry, row: KnownState) -> bool:
    """Whether the catalog's entry is what is on the disk, metadata included."""
    if entry.kind is not row.kind or entry.digest != row.digest:
        return False
    if row.kind is Kind.SYMLINK:  # a link's own mode means nothing on Linux
        return entry.mtime_ns == replicated_time(row.mtime_ns)
    if row.kind is Kind.DIRECTORY:
        return entry.mode == row.mode
    return entry.mode == row.mode and entry.mtime_ns == replicated_time(row.mtime_ns)


def _placed_version(
    now: KnownState, row: KnownState | None, placed: Entry | None, entry: Entry | None
) -> int | None:
    """The version that this node, or whoever agrees with the cluster, has put there as `now` says.

    None if nobody is known to have: then it is a person's edit.

    Args:
        placed: what was announced of the path and is not booked: its placement ended or broke off
            with a process that was killed, before or after the disk was changed.
        entry: what the catalog has.
    """
    if entry is not None and says_the_same(entry, now):
        return entry.version
    if placed is not None and placed.version > now.version and says_the_same(placed, now):
        return placed.version
    if row is not None and _same_but_for_ctime(row, now):
        return row.version
    if placed is not None and _is_half_placed(now, row, placed):
        return now.version
    return None


def _is_half_placed(now: KnownState, row: KnownState | None, placed: Entry) -> bool:
    """Whether a placement that is not one rename broke off: metadata, or making a directory."""
    if row is None:
        return now.kind is placed.kind is Kind.DIRECTORY and now.mode == MODE_WHILE_MADE
    same_content = row.kind is now.kind is placed.kind and row.digest == now.digest == placed.digest
    return (
        same_content
        and now.mode in (row.mode, placed.mode)
        and now.mtime_ns in (row.mtime_ns, placed.mtime_ns)
    )


def _same_but_for_ctime(row: KnownState, now: KnownState) -> bool:
    return (
        row.kind is now.kind
        and row.digest == now.digest
        and row.mode == now.mode
        and row.mtime_ns == now.mtime_ns
    )
