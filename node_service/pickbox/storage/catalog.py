"""The catalog: what the cluster has agreed on, as far as this node has applied it (SQLite).

One writer, the tick thread, changes it in one transaction a log entry, together with the applied
index and the request table; so a restart neither repeats nor loses an entry. Any thread reads.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgpack

from pickbox.changes import Entry, Kind
from pickbox.storage.digest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA_VERSION: Final = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    path BLOB PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL, mode INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, target BLOB NOT NULL,
    version INTEGER NOT NULL, origin TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_digest ON entries (digest) WHERE kind = 1;
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, log_index INTEGER NOT NULL, receipt BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_index ON requests (log_index);
"""
_HASH_BITS: Final = 256
_COLUMNS = "path, kind, size, mode, mtime_ns, digest, target, version, origin"
_PAGE = 500


class CatalogError(Exception):
    """The catalog cannot be used; the text says why and what to do."""


class Catalog:
    """Entries, request table and applied index in one SQLite file.

    Implements `pickbox.seams.CatalogReader`. `transaction` is for the tick thread alone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._writer = self._connect()
        self._writer.executescript(_SCHEMA)
        found = _meta(self._writer, "schema") or SCHEMA_VERSION
        if found > SCHEMA_VERSION:
            raise CatalogError(
                f"{path} was written by a newer release (schema {found}; this one knows "
                f"{SCHEMA_VERSION}): start that release again, or restore a backup"
            )
        self._set_meta("schema", SCHEMA_VERSION)
        self._read_counters()

    def _read_counters(self) -> None:
        self._applied = _meta(self._writer, "applied_index")
        self._last_version = _meta(self._writer, "version")
        self._state_hash = _stored_hash(self._writer)

    @property
    def last_version(self) -> int:
        """The highest version that was ever given; a path known at a higher one is news to us."""
        return self._last_version

    @property
    def applied_index(self) -> int:
        """Log index of the last command in the catalog; 0 if none."""
        return self._applied

    @property
    def state_hash(self) -> bytes:
        """A hash of all entries and of the last version, the same on nodes that applied the same.

        A sum of the entries' own hashes, so that a change costs the same however many there are
        (AdHash: Bellare, Micciancio, "A New Paradigm for Collision-Free Hashing", 1997). It finds
        nodes that applied differently; it is no proof against an attacker.
        """
        return self._state_hash.to_bytes(_HASH_BITS // 8) + self._last_version.to_bytes(8)

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return _get(self._reader(), path)

    def under(self, directory: bytes) -> Iterator[Entry]:
        """The entry of `directory` and of all below it, in path order; ``b""`` for all."""
        return _under(self._reader(), directory)

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        """At most `limit` entries whose path starts with `prefix` and sorts after `after`."""
        rows = self._reader().execute(
            f"SELECT {_COLUMNS} FROM entries WHERE path > ? AND path >= ? AND path < ? "  # noqa: S608 - constant
            "ORDER BY path LIMIT ?",
            (after, prefix, _after_prefix(prefix), limit),
        )
        return [_entry(row) for row in rows]

    def has_content(self, digest: bytes) -> bool:
        """Whether some file of the catalog has this content."""
        return _has_content(self._reader(), digest)

    def receipt(self, request_id: str) -> bytes | None:
        """The encoded receipt of a request that was applied, while it is remembered."""
        return _receipt(self._reader(), request_id)

    def totals(self) -> tuple[int, int]:
        """How many files there are, and their size in bytes."""
        query = "SELECT count(*), coalesce(sum(size), 0) FROM entries WHERE kind = 1"
        count, size = self._reader().execute(query).fetchone()
        return count, size

    @contextmanager
    def transaction(self, index: int) -> Iterator[CatalogTransaction]:
        """One log entry's changes: all of them with `index` as the applied index, or none."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            transaction = CatalogTransaction(self._writer, index)
            yield transaction
            self._set_meta("applied_index", index)
            last_version = _meta(self._writer, "version")
            state_hash = (self._state_hash + transaction.hash_change) % (1 << _HASH_BITS)
            if transaction.hash_change:
                self._set_meta("state_hash", state_hash.to_bytes(_HASH_BITS // 8))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._applied = index
        self._last_version = last_version
        self._state_hash = state_hash

    def begin_dump(self) -> Callable[[str], None]:
        """Pin the catalog as it is now; what is returned writes it to a path, on any thread.

        It is to be called once; it does not sync what it writes.
        """
        pinned = self._connect()
        pinned.execute("BEGIN")
        _meta(pinned, "applied_index")  # the first read is what pins it (SQLite, WAL mode)

        def write(path: str) -> None:
            with closing(pinned), closing(sqlite3.connect(path)) as copy:
                pinned.backup(copy)

        return write

    def load(self, path: str) -> None:
        """Replace everything by the copy at `path`, in one transaction.

        Raises:
            CatalogError: the copy is damaged or from a newer release; nothing was changed.
        """
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            try:
                sound = copy.execute("PRAGMA quick_check").fetchone()[0] == "ok"
                schema = _meta(copy, "schema")
            except sqlite3.DatabaseError as error:
                raise CatalogError(f"the snapshot at {path} is damaged: {error}") from error
            if not sound or schema > SCHEMA_VERSION:
                raise CatalogError(f"the snapshot at {path} is damaged or of a newer release")
            copy.backup(self._writer)
        self._read_counters()

    def close(self) -> None:
        """Close every connection."""
        with self._readers_lock:
            for reader in (*self._readers, self._writer):
                reader.close()
            self._readers.clear()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # The log replays what a power cut takes from here, so a commit need not wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA busy_timeout = 5000")
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            with self._readers_lock:
                self._readers.append(connection)
        return connection

    def _set_meta(self, name: str, value: int | bytes) -> None:
        self._writer.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            (name, value),
        )


class CatalogCopy:
    """The catalog as it was at a snapshot. Used by one thread at a time; the file may go away.

    Raises:
        sqlite3.Error: the file cannot be read; every method may raise it.
    """

    def __init__(self, path: str) -> None:
        uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        _meta(self._db, "version")  # the first read is what opens it

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return _get(self._db, path)

    def close(self) -> None:
        """Let go of the file: its bytes stay on the disk for as long as somebody has it open."""
        self._db.close()


class CatalogTransaction:
    """What the state machine may do to the catalog within one log entry."""

    def __init__(self, connection: sqlite3.Connection, index: int) -> None:
        self._db = connection
        self.index = index
        self.touched: list[bytes] = []
        self.hash_change = 0

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return _get(self._db, path)

    def under(self, directory: bytes) -> list[Entry]:
        """The entry of `directory` and of all below it, in path order."""
        return list(_under(self._db, directory))

    def has_children(self, directory: bytes) -> bool:
        """Whether anything is in `directory`."""
        low = directory + b"/"
        query = "SELECT 1 FROM entries WHERE path > ? AND path < ? LIMIT 1"
        return self._db.execute(query, (low, _after_prefix(low))).fetchone() is not None

    def starting_with(self, prefix: bytes) -> list[Entry]:
        """Entries whose path starts with `prefix`, in path order."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM entries WHERE path >= ? AND path < ? ORDER BY path",  # noqa: S608 - constant
            (prefix, _after_prefix(prefix)),
        )
        return [_entry(row) for row in rows]

    def next_version(self) -> int:
        """A version greater than all before it."""
        row = self._db.execute(
            "INSERT INTO meta VALUES ('version', 1) "
            "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        ).fetchone()
        return int(row[0])

    def put(self, entry: Entry) -> None:
        """Make `entry` the current one of its path."""
        self._leave_out(entry.path)
        self.hash_change += _hash_of(entry)
        self._db.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.path,
                int(entry.kind),
                entry.size,
                entry.mode,
                entry.mtime_ns,
                entry.digest,
                entry.target,
                entry.version,
                entry.origin,
            ),
        )
        self.touched.append(entry.path)

    def remove(self, path: bytes) -> None:
        """Take `path` out of the catalog."""
        self._leave_out(path)
        self._db.execute("DELETE FROM entries WHERE path = ?", (path,))
        self.touched.append(path)

    def _leave_out(self, path: bytes) -> None:
        """Take the entry that is at `path` out of the hash."""
        replaced = _get(self._db, path)
        if replaced is not None:
            self.hash_change -= _hash_of(replaced)

    def receipt(self, request_id: str) -> bytes | None:
        """The encoded receipt of a request that was applied before."""
        return _receipt(self._db, request_id)

    def remember(self, request_id: str, receipt: bytes) -> None:
        """Keep the answer to a request, for its retries."""
        self._db.execute("INSERT INTO requests VALUES (?, ?, ?)", (request_id, self.index, receipt))

    def forget_receipts(self, before: int) -> None:
        """Forget answers of entries with a log index below `before`."""
        self._db.execute("DELETE FROM requests WHERE log_index < ?", (before,))


def _entry(row: tuple[bytes, int, int, int, int, bytes, bytes, int, str]) -> Entry:
    path, kind, size, mode, mtime_ns, digest, target, version, origin = row
    return Entry(path, Kind(kind), size, mode, mtime_ns, digest, target, version, origin)


def _hash_of(entry: Entry) -> int:
    packed = msgpack.packb(
        [
            entry.path,
            int(entry.kind),
            entry.size,
            entry.mode,
            entry.mtime_ns,
            entry.digest,
            entry.target,
            entry.version,
            entry.origin,
        ]
    )
    return int.from_bytes(digest_bytes(packed))


def _stored_hash(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = 'state_hash'").fetchone()
    return 0 if row is None else int.from_bytes(row[0])


def _get(db: sqlite3.Connection, path: bytes) -> Entry | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM entries WHERE path = ?", (path,)).fetchone()  # noqa: S608 - constant
    return None if row is None else _entry(row)


def _has_content(db: sqlite3.Connection, digest: bytes) -> bool:
    query = "SELECT 1 FROM entries WHERE digest = ? AND kind = 1 LIMIT 1"
    return db.execute(query, (digest,)).fetchone() is not None


def _under(db: sqlite3.Connection, directory: bytes) -> Iterator[Entry]:
    """Read in pages, so that no statement stays open while the caller works."""
    if directory:
        own = _get(db, directory)
        if own is not None:
            yield own
        low = directory + b"/"
        high = _after_prefix(low)
    else:
        low, high = b"", _after_prefix(b"")
    while True:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM entries WHERE path > ? AND path < ? ORDER BY path LIMIT ?",  # noqa: S608 - constant
            (low, high, _PAGE),
        ).fetchall()
        yield from map(_entry, rows)
        if len(rows) < _PAGE:
            return
        low = rows[-1][0]


def _after_prefix(prefix: bytes) -> bytes:
    """The smallest path that sorts after everything that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * 5000  # longer than the longest path
    return stripped[:-1] + bytes([stripped[-1] + 1])


def _receipt(db: sqlite3.Connection, request_id: str) -> bytes | None:
    row = db.execute("SELECT receipt FROM requests WHERE id = ?", (request_id,)).fetchone()
    return None if row is None else bytes(row[0])


def _meta(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])
