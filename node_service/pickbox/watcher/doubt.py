"""After a loss of power: what the folder holds where it was written to lately may be nobody's word.

A file that was placed and not synced may be missing, empty or old by then, while its row survived;
a file that was removed may be back. Taken for a person's doing, that would delete or overwrite
acknowledged content everywhere. So each path that may not have been durable is looked at: those
that the log's entries since the last snapshot touched, and those that were not placed when the
volume was synced last. What is there and was put there once, or is a damaged form of that, is
booked as it is found: known, and of no version. The placer then makes it what the catalog says,
and what it takes away is kept in ``versions/``. What nobody has ever put there a person has made,
and synced: it stays, for the watcher to take in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat as st
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pickbox.changes import ABSENT, Kind
from pickbox.known import KnownState, kind_of
from pickbox.storage.digest import digest_bytes
from pickbox.storage.paths import display
from pickbox.watcher.content import ChangedWhileRead, is_gone, read_digest
from pickbox.watcher.ignore import IgnoreRules
from pickbox.watcher.reconcile import replicated_time, says_the_same
from pickbox.watcher.remembered import Remembered, is_blank, is_damage
from pickbox.watcher.scan import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pickbox.changes import Entry, Submission
    from pickbox.storage.catalog import Catalog
    from pickbox.storage.staging import Staging
    from pickbox.storage.state import StateDatabase
    from pickbox.storage.synced import SyncedFolder
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.remembered import Puts

log = logging.getLogger(__name__)

_SMALL: Final = 1 << 20
"""Bytes beyond which a file is not compared with what was written: it was synced before."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What is on the disk at a path; `content` if it is a small file."""

    row: KnownState
    content: bytes | None = None


@dataclass(slots=True)
class _Booking:
    """What `settle` has found out so far.

    Attributes:
        rows: what is there, by path.
        gone: rows of what is not there.
        missing: files that the catalog has and the disk has not.
        wrong: paths to be placed.
    """

    rows: dict[bytes, KnownState] = field(default_factory=dict)
    gone: dict[bytes, KnownState] = field(default_factory=dict)
    missing: list[Entry] = field(default_factory=list)
    wrong: set[bytes] = field(default_factory=set)

    def book(self, row: KnownState) -> None:
        """This is at its path, and is not what the catalog says."""
        self.rows[row.path] = row
        self.wrong.add(row.path)


class Doubts:
    """Paths that a loss of power may have changed. One thread at a time, but for the notes."""

    def __init__(
        self,
        tree: FileTree,
        state: StateDatabase,
        catalog: Catalog,
        staging: Staging,
        synced: SyncedFolder,
    ) -> None:
        self._tree = tree
        self._state = state
        self._catalog = catalog
        self._staging = staging
        self._synced = synced
        self._remembered = Remembered(catalog.receipt)
        self._touched: set[bytes] = set()
        self._behind: dict[bytes, bytes] = {}

    def note_snapshot(self, path: str, index: int) -> None:
        """The snapshot at `path` has the log's entries up to `index`."""
        self._remembered.note_snapshot(path, index)

    def note(self, index: int, submissions: Sequence[Submission]) -> None:
        """The log's entry at `index`, which was there at the start, asked for this."""
        self._remembered.note(index, submissions)

    def note_touched(self, index: int, paths: Sequence[bytes]) -> None:
        """The entry at `index` was applied anew, and touched these."""
        if index <= self._remembered.last_index:
            self._touched.update(paths)

    def settle(self) -> set[bytes]:
        """Book all of them, once all is applied that is committed of what was noted.

        Returns:
            The paths that are not what the catalog says, and no person's doing.
        """
        self._remembered.resolve()
        self._behind = self._synced.behind()
        self._forget_answers()
        booking, paths = _Booking(), self._in_doubt()
        for path in sorted(paths):
            self._look(path, booking)
        if booking.missing:
            self._look_at_strangers(booking)
        self._state.put(booking.rows.values())
        self._state.forget(booking.gone.values())
        fields = {"paths": len(paths), "wrong": len(booking.wrong)}
        log.info("folder_compared", extra={"fields": fields})
        self._remembered.forget()
        return booking.wrong

    def _forget_answers(self) -> None:
        """What was answered is in the catalog, and the disk is not as it was when it was asked."""
        for request_id in self._state.proposed():
            if self._catalog.receipt(request_id) is not None:
                self._state.answered(request_id, ())

    # -- where to look ----------------------------------------------------------------------

    def _in_doubt(self) -> set[bytes]:
        if not self._is_all_known:
            return self._everything()
        paths = self._remembered.paths | self._touched | self._behind.keys()
        for directory in self._remembered.directories:
            paths.update(entry.path for entry in self._catalog.under(directory))
            paths.update(row.path for row in self._state.under(directory))
            paths.update(self._on_disk(directory))
        for path in list(paths):
            parts = path.split(b"/")
            paths.update(b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        return paths

    def _everything(self) -> set[bytes]:
        paths = {entry.path for entry in self._catalog.under(b"")}
        paths.update(row.path for row in self._state.under(b""))
        paths.update(path for path, _ in Walk(self._tree.root))
        return paths | self._remembered.paths

    def _on_disk(self, directory: bytes) -> Iterator[bytes]:
        """What is there of `directory` and in it, as far as that can be read."""
        try:
            stat = self._tree.lstat(directory)
            is_directory = stat is not None and kind_of(stat) is Kind.DIRECTORY
            names = self._tree.names(directory) if is_directory else []
        except OSError as error:  # what rows and catalog have in it is looked at all the same
            _say_unreadable(directory, error)
            return
        if stat is not None:
            yield directory
        for name in names:
            yield from self._on_disk(os.path.join(directory, name))

    # -- what is there ----------------------------------------------------------------------

    def _look(self, path: bytes, booking: _Booking) -> None:
        row, entry = self._state.get(path), self._catalog.get(path)
        try:
            stat = self._tree.lstat(path)
            found = None if stat is None else self._read(path, stat)
        except OSError as error:
            # When it can be read some day, it must not pass for an edit of what the row says.
            # Without a row, what is missing is placed, and what is damaged replaces nothing.
            _say_unreadable(path, error)
            if row is not None:
                booking.gone[path] = row
            return
        if stat is None:
            if row is not None:
                booking.gone[path] = row
            if entry is not None:
                booking.wrong.add(path)
                booking.missing += [entry] if entry.kind is Kind.FILE else []
            return
        if found is None:
            return  # it is being written, or of no kind of ours: the watcher looks when it settles
        if entry is not None and says_the_same(entry, found.row):
            booking.rows[path] = replace(found.row, version=entry.version)
        elif self._is_ours(path, found, row, entry):
            booking.book(found.row)

    def _read(self, path: bytes, stat: os.stat_result) -> _Found | None:
        """What is at `path`; None if somebody is at it now, or it is of no kind of ours.

        Raises:
            OSError: it cannot be read.
        """
        kind = kind_of(stat)
        if kind is Kind.DIRECTORY:
            return _Found(KnownState.of(path, stat, b"", ABSENT))
        if kind is Kind.SYMLINK:
            digest = digest_bytes(self._tree.read_link(path))
            return _Found(KnownState.of(path, stat, digest, ABSENT))
        if kind is None:
            return None
        try:
            with self._tree.open_file(path) as file:
                content = read_digest(file)
                file.seek(0)
                small = file.read() if content.stat.st_size <= _SMALL else None
        except ChangedWhileRead:
            return None
        except OSError as error:
            if is_gone(error):
                return None
            raise
        return _Found(KnownState.of(path, content.stat, content.digest, ABSENT), small)

    def _is_ours(
        self, path: bytes, found: _Found, row: KnownState | None, entry: Entry | None
    ) -> bool:
        """Whether what is there was put there once, or is what is left of it."""
        puts = self._remembered.puts(path)
        puts.add(entry)
        if row is not None:
            puts.decided.add(row.digest)
            puts.times.add(replicated_time(row.mtime_ns))
        names = self._remembered.names(path) & self._behind.keys()
        puts.decided.update(self._behind[name] for name in names)
        named = bool(puts.decided) or path in self._remembered.paths or path in self._touched
        digest = found.row.digest
        if found.row.kind is Kind.DIRECTORY:
            return named
        if digest in puts.decided:
            return True
        if digest in puts.proposed:
            return False
        # Where the log does not say what was written, nothing of it may spread.
        return self._is_damaged(found, puts) or (named and not self._is_all_known)

    @property
    def _is_all_known(self) -> bool:
        """Whether the log has all that was placed since the volume was synced."""
        return self._remembered.begins_at <= self._synced.index

    def _is_damaged(self, found: _Found, puts: Puts) -> bool:
        if found.row.kind is not Kind.FILE:
            return False
        digests = (puts.decided | puts.proposed) - {b""}
        if replicated_time(found.row.mtime_ns) in puts.times:
            return True  # whoever edits a file sets its time
        if found.content is None or not digests:
            return False
        if is_blank(found.content):
            return True
        return is_damage(found.content, self._contents(digests))

    def _contents(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those contents that are to be had here, and are small."""
        known = map(self._content, digests)
        return [content for content in known if content is not None]

    def _content(self, digest: bytes) -> bytes | None:
        content = self._remembered.content(digest)
        if content is not None:
            return content
        file = self._staging.open(digest)
        if file is None:
            return None
        with file:
            small = os.fstat(file.fileno()).st_size <= _SMALL
            return file.read() if small else None

    # -- what has another name --------------------------------------------------------------

    def _look_at_strangers(self, booking: _Booking) -> None:
        """A file that is missing may have been given another name by a person, and lastingly so.

        Then its row says so, and the watcher takes the new name in. If the content was not as
        lasting as its name, it is of no use: the file is placed anew under the name that it had.
        """
        digests = {entry.digest for entry in booking.missing}
        contents = self._contents(digests)
        missing: defaultdict[tuple[bytes, int], list[Entry]] = defaultdict(list)
        for entry in reversed(booking.missing):
            missing[entry.digest, entry.mtime_ns].append(entry)
        for stranger in self._strangers(booking):  # one at a time: there may be many
            row, content = stranger.row, stranger.content
            # A file under another name keeps its time; a copy has one of its own.
            names = missing.get((row.digest, replicated_time(row.mtime_ns)))
            if names:
                _book_renamed(booking, names.pop(), row)
            elif content is None or row.digest in digests:
                continue  # a copy, if it is one of theirs
            elif is_blank(content) or is_damage(content, contents):
                booking.book(row)

    def _strangers(self, booking: _Booking) -> Iterator[_Found]:
        """Files that neither catalog nor rows know; none is larger than what is missing."""
        rules = IgnoreRules()
        rules.refresh(self._tree)
        largest = max(entry.size for entry in booking.missing)
        for path, stat in Walk(self._tree.root):
            if not st.S_ISREG(stat.st_mode) or stat.st_size > largest or path in booking.rows:
                continue
            known = self._state.get(path) is not None or self._catalog.get(path) is not None
            if not known and not rules.ignores(path, is_directory=False):
                found = self._read_if_possible(path, stat)
                if found is not None:
                    yield found

    def _read_if_possible(self, path: bytes, stat: os.stat_result) -> _Found | None:
        with contextlib.suppress(OSError):
            return self._read(path, stat)
        return None


def _say_unreadable(path: bytes, error: OSError) -> None:
    fields = {"path": display(path), "why": str(error)}
    log.warning("path_unreadable", extra={"fields": fields})


def _book_renamed(booking: _Booking, entry: Entry, found: KnownState) -> None:
    """The entry's file is the one that was `found` under another name: no doubt about it."""
    booking.rows[entry.path] = replace(found, path=entry.path, version=entry.version)
    booking.gone.pop(entry.path, None)
    booking.wrong.discard(entry.path)
