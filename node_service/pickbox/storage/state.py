"""What this node last knew of each path on its own disk, in SQLite: ``state.db``.

Rows are the node's memory, never the cluster's truth: a row that is lost costs one hashing of its
file. So the database runs in WAL mode with ``synchronous=NORMAL``: it survives any crash whole,
and a loss of power may take the last commits back.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

from pickbox.changes import Entry, Kind
from pickbox.failpoints import failpoint
from pickbox.known import KnownState, Revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_ROWS: Final = 1000
"""Rows fetched at once while iterating; no lock is held between pages."""

SAME_DIGEST: Final = 8
"""Rows returned of one digest: whoever asks wants content, not a list of all who have it."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS known (
    path BLOB PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL, mode INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    digest BLOB NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS announced (
    path BLOB PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL, mode INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS proposed (
    request_id TEXT NOT NULL, position INTEGER NOT NULL, path BLOB NOT NULL, kind INTEGER,
    size INTEGER, mode INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, digest BLOB,
    version INTEGER, PRIMARY KEY (request_id, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_by_digest ON known (digest);
CREATE INDEX IF NOT EXISTS known_by_inode ON known (inode);
"""
_SELECT: Final = (
    "SELECT path, kind, size, mode, mtime_ns, ctime_ns, inode, digest, version FROM known "
)
_GET: Final = _SELECT + "WHERE path = ?"
_WITH_DIGEST: Final = _SELECT + "WHERE digest = ? LIMIT ?"
_WITH_INODE: Final = _SELECT + "WHERE inode = ? ORDER BY path"
_PAGE: Final = _SELECT + "WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
_PAGE_OF_ALL: Final = _SELECT + "WHERE path > ? ORDER BY path LIMIT ?"
_PUT: Final = (
    "INSERT OR REPLACE INTO known "
    "(path, kind, size, mode, mtime_ns, ctime_ns, inode, digest, version) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FORGET: Final = "DELETE FROM known WHERE path = ?"
_ANNOUNCE: Final = (
    "INSERT OR REPLACE INTO announced (path, kind, size, mode, mtime_ns, digest, version) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_ANNOUNCED: Final = (
    "SELECT path, kind, size, mode, mtime_ns, digest, version FROM announced WHERE path = ?"
)
_DONE: Final = "DELETE FROM announced WHERE path = ? AND version <= ?"
_FORGET_ANNOUNCED: Final = "DELETE FROM announced WHERE path = ?"
_PROPOSE: Final = (
    "INSERT INTO proposed (request_id, position, path, kind, size, mode, mtime_ns, ctime_ns, "
    "inode, digest, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PROPOSED: Final = (
    "SELECT request_id, path, kind, size, mode, mtime_ns, ctime_ns, inode, digest, version "
    "FROM proposed ORDER BY request_id, position"
)
_IS_PROPOSED: Final = "SELECT 1 FROM proposed WHERE path = ? AND digest = ? LIMIT 1"
_IS_LATER: Final = "SELECT 1 FROM known WHERE path = ? AND version > ?"
_ANSWERED: Final = "DELETE FROM proposed WHERE request_id = ?"
_NO_ROW: Final = (None,) * 7
_SYNCHRONOUS: Final = "NORMAL"

_KINDS: Final = {int(kind): kind for kind in Kind}


class StateDatabase:
    """Implements `pickbox.seams.StateManager` at `path`. Thread-safe.

    Readers share one connection and writers another, so that a commit never keeps a reader waiting.

    Raises:
        sqlite3.Error: the file is not a database, is damaged, or the disk refuses; every method
            may raise it.
    """

    def __init__(self, path: bytes | str) -> None:
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._writer = _connect(path)
        self._writer.executescript(_SCHEMA)
        self._reader = _connect(path)
        self._reader.execute("PRAGMA query_only = ON")

    def get(self, path: bytes) -> KnownState | None:
        """The row of `path`, or None."""
        with self._reading:
            row = self._reader.execute(_GET, (path,)).fetchone()
        return None if row is None else _known(row)

    def look_up(self, path: bytes) -> tuple[KnownState | None, Entry | None]:
        """The row of `path`, and the entry that may be on the disk though the row says otherwise.

        Both are of one moment: what was placed and announced is in the one or in the other.
        """
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                row = self._reader.execute(_GET, (path,)).fetchone()
                placed = self._reader.execute(_ANNOUNCED, (path,)).fetchone()
            finally:
                self._reader.execute("COMMIT")
        return (
            None if row is None else _known(row),
            None if placed is None else _announced(placed),
        )

    def put(self, rows: Iterable[KnownState]) -> None:
        """Write the `rows` of what was placed, replacing what was known, in one transaction."""
        with self.transaction() as connection:
            _put(connection, rows)

    def revise(self, revisions: Iterable[Revision]) -> list[bytes]:
        """Write or drop rows, in one transaction, but for those that are later than `base` by now.

        Whoever looked at the disk compared it with the row of that time. A later row is of
        something that was placed since: it stays, and its path is among those returned.
        """
        with self.transaction() as connection:
            return _revise(connection, revisions)

    def forget(self, rows: Iterable[KnownState]) -> None:
        """Drop `rows` and what was announced of their paths, but no row that is later by now."""
        self.revise(Revision(row.path, row.version, None) for row in rows)

    def propose(self, request_id: str, revisions: Iterable[Revision]) -> None:
        """Note, in one transaction, what is about to be proposed, until it is `answered`.

        Args:
            revisions: in the order of the submission, what the answers will complete; the row of a
                delete is None, and that of another change is at its base version.
        """
        values = [
            (request_id, position, revision.path, *_noted(revision))
            for position, revision in enumerate(revisions)
        ]
        with self.transaction() as connection:
            connection.executemany(_PROPOSE, values)

    def proposed(self) -> dict[str, list[Revision]]:
        """What was proposed and not answered, by request id, in the order of the submission."""
        found: dict[str, list[Revision]] = {}
        for request_id, *row in self.query(_PROPOSED, ()):
            known = None if row[1] is None else _known(tuple(row))
            found.setdefault(request_id, []).append(Revision(row[0], row[-1], known))
        return found

    def is_proposed(self, path: bytes, digest: bytes) -> bool:
        """Whether that content of `path` was proposed and is not answered."""
        return bool(self.query(_IS_PROPOSED, (path, digest)))

    def answered(self, request_id: str, revisions: Iterable[Revision]) -> list[bytes]:
        """Book the answer to a submission: `revise`, and its end, in one transaction."""
        with self.transaction() as connection:
            refused = _revise(connection, revisions)
            connection.execute(_ANSWERED, (request_id,))
        return refused

    def announce(self, entries: Iterable[Entry]) -> None:
        """Note that `entries` are about to be placed, until their rows are written.

        What was announced of their paths before is forgotten: it must not be on the disk.
        """
        values = [
            (e.path, int(e.kind), e.size, e.mode, _stored(e.mtime_ns), e.digest, e.version)
            for e in entries
        ]
        if values:
            with self.transaction() as connection:
                connection.executemany(_ANNOUNCE, values)

    def under(self, directory: bytes) -> Iterator[KnownState]:
        """Rows of `directory` and of everything in it, in path order; ``b""`` for all rows.

        Reads page by page: rows that others write meanwhile may or may not be among them.
        """
        if directory:
            own = self.get(directory)
            if own is not None:
                yield own
            end = directory + b"0"  # '0' is the byte after '/'
            yield from self._pages(_PAGE, directory + b"/", (end,))
        else:
            yield from self._pages(_PAGE_OF_ALL, b"", ())

    def with_digest(self, digest: bytes) -> list[KnownState]:
        """A few rows whose content had that digest; thousands of files may hold the same."""
        return [_known(row) for row in self.query(_WITH_DIGEST, (digest, SAME_DIGEST))]

    def with_inode(self, inode: int) -> list[KnownState]:
        """Rows whose file had that inode number, in path order."""
        return [_known(row) for row in self.query(_WITH_INODE, (_stored(inode),))]

    def count(self) -> int:
        """How many paths are known."""
        count: int = self.query("SELECT count(*) FROM known", ())[0][0]
        return count

    def query(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        """All rows that `sql` selects, for the tables that other parts keep in this database."""
        with self._reading:
            return self._reader.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """The writing connection in a transaction, committed at the end, undone on an error.

        Args:
            durable: whether the commit, with all before it, outlasts a loss of power.
        """
        with self._writing, self._synchronous("FULL" if durable else _SYNCHRONOUS):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                failpoint("state_before_commit")
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _synchronous(self, level: str) -> Iterator[None]:
        """Have commits within synced as `level` says; SQLite ignores it inside a transaction."""
        if level == _SYNCHRONOUS:
            yield
            return
        self._writer.execute(f"PRAGMA synchronous = {level}")
        try:
            yield
        finally:
            self._writer.execute(f"PRAGMA synchronous = {_SYNCHRONOUS}")

    def close(self) -> None:
        """Finish; the database must not be used afterwards."""
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def _pages(self, sql: str, after: bytes, end: tuple[bytes, ...]) -> Iterator[KnownState]:
        while page := self.query(sql, (after, *end, PAGE_ROWS)):
            yield from map(_known, page)
            after = page[-1][0]
            if len(page) < PAGE_ROWS:
                return


def _connect(path: bytes | str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        os.fsdecode(path), isolation_level=None, check_same_thread=False, timeout=30.0
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS}")
    connection.execute("PRAGMA busy_timeout = 30000")
    return connection


def _put(connection: sqlite3.Connection, rows: Iterable[KnownState]) -> None:
    values = [_values(row) for row in rows]
    connection.executemany(_PUT, values)
    connection.executemany(_DONE, [(value[0], value[-1]) for value in values])


def _revise(connection: sqlite3.Connection, revisions: Iterable[Revision]) -> list[bytes]:
    refused = []
    for revision in revisions:
        path = revision.path
        if connection.execute(_IS_LATER, (path, revision.base)).fetchone() is not None:
            refused.append(path)
        elif revision.row is not None:
            _put(connection, [revision.row])
        else:
            connection.execute(_FORGET, (path,))
            connection.execute(_FORGET_ANNOUNCED, (path,))
    return refused


def _noted(revision: Revision) -> tuple[object, ...]:
    if revision.row is None:
        return *_NO_ROW, revision.base
    return _values(revision.row)[1:]


def _values(row: KnownState) -> tuple[object, ...]:
    return (
        row.path,
        int(row.kind),
        row.size,
        row.mode,
        _stored(row.mtime_ns),
        _stored(row.ctime_ns),
        _stored(row.inode),
        row.digest,
        row.version,
    )


def _known(row: tuple[Any, ...]) -> KnownState:
    path, kind, size, mode, mtime_ns, ctime_ns, inode, digest, version = row
    return KnownState(
        path,
        _KINDS[kind],
        size,
        mode,
        int(mtime_ns),
        int(ctime_ns),
        int(inode),
        digest,
        version,
    )


def _announced(row: tuple[Any, ...]) -> Entry:
    path, kind, size, mode, mtime_ns, digest, version = row
    return Entry(path, _KINDS[kind], size, mode, int(mtime_ns), digest, b"", version, origin="")


def _stored(number: int) -> int | bytes:
    """`number` as SQLite can hold it: its integers have 64 bits and a sign.

    Inodes have 64 bits and none, and a time stamp may be past the year 2262; those are kept as
    digits in a blob, which ``int`` reads back.
    """
    return number if -(1 << 63) <= number < 1 << 63 else str(number).encode("ascii")
