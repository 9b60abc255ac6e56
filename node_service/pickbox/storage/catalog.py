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

from pickbox.changes import Kind
from pickbox.levels import FIRST_LEVEL, LEVELS
from pickbox.storage import catalog_rows as rows
from pickbox.storage.catalog_rows import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pickbox.changes import Entry

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


class CatalogError(Exception):
    """The catalog cannot be used; the text says why and what to do."""


class Catalog:
    """Entries, request table, applied index and level in one SQLite file.

    Implements `pickbox.seams.CatalogReader`. `transaction` is for the tick thread alone.

    Raises:
        WrongRelease: a newer release is needed; the file is as it was.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._writer = self._connect()
        rows.refuse_newer(self._writer, path)
        self._writer.executescript(_SCHEMA)
        self._set_meta("schema", SCHEMA_VERSION)
        self._read_counters()

    def _read_counters(self) -> None:
        self._applied = rows.meta(self._writer, "applied_index")
        self._last_version = rows.meta(self._writer, "version")
        self._state_hash = rows.stored_hash(self._writer)
        self._level = rows.level(self._writer)

    @property
    def level(self) -> int:
        """What the cluster may tell each other, as far as this node has applied it."""
        return self._level

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
        """A hash of all entries, the last version and the level: the same on nodes that agree.

        A sum of the entries' own hashes, so that a change costs the same however many there are
        (AdHash: Bellare, Micciancio, "A New Paradigm for Collision-Free Hashing", 1997). It finds
        nodes that applied differently; it is no proof against an attacker.
        """
        # Releases that know no levels have the same at the first one.
        raised = self._level.to_bytes(2) if self._level > FIRST_LEVEL else b""
        entries = self._state_hash.to_bytes(_HASH_BITS // 8)
        return entries + self._last_version.to_bytes(8) + raised

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return rows.get(self._reader(), path)

    def under(self, directory: bytes) -> Iterator[Entry]:
        """The entry of `directory` and of all below it, in path order; ``b""`` for all."""
        return rows.under(self._reader(), directory)

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        """At most `limit` entries whose path starts with `prefix` and sorts after `after`."""
        found = self._reader().execute(
            f"SELECT {rows.COLUMNS} FROM entries WHERE path > ? AND path >= ? AND path < ? "  # noqa: S608 - constant
            "ORDER BY path LIMIT ?",
            (after, prefix, rows.after_prefix(prefix), limit),
        )
        return [rows.entry(row) for row in found]

    def has_content(self, digest: bytes) -> bool:
        """Whether some file of the catalog has this content."""
        return rows.has_content(self._reader(), digest)

    def receipt(self, request_id: str) -> bytes | None:
        """The encoded receipt of a request that was applied, while it is remembered."""
        return rows.receipt(self._reader(), request_id)

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
            transaction = CatalogTransaction(self._writer, index, self._level)
            yield transaction
            self._set_meta("applied_index", index)
            last_version = rows.meta(self._writer, "version")
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
        self._level = transaction.level

    def begin_dump(self, before: Callable[[], None] = lambda: None) -> Callable[[str], None]:
        """Pin the catalog as it is now; what is returned writes it to a path, on any thread.

        It is to be called once; it does not sync what it writes. It calls `before` first, and if
        that raises, writes nothing; the catalog is not pinned any more, either way.
        """
        pinned = self._connect()
        pinned.execute("BEGIN")
        rows.meta(pinned, "applied_index")  # the first read is what pins it (SQLite, WAL mode)

        def write(path: str) -> None:
            with closing(pinned):
                before()
                with closing(sqlite3.connect(path)) as copy:
                    pinned.backup(copy)

        return write

    def load(self, path: str) -> None:
        """Replace everything by the copy at `path`, in one transaction.

        Raises:
            CatalogError: the copy is damaged; nothing was changed.
            WrongRelease: the copy needs a newer release; nothing was changed.
        """
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            try:
                sound = copy.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            except sqlite3.DatabaseError as error:
                raise CatalogError(f"the snapshot at {path} is damaged: {error}") from error
            if not sound:
                raise CatalogError(f"the snapshot at {path} is damaged")
            rows.refuse_newer(copy, f"the snapshot at {path}")
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
            "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)",
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
        rows.meta(self._db, "version")  # the first read is what opens it

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return rows.get(self._db, path)

    def under(self, directory: bytes) -> Iterator[Entry]:
        """The entry of `directory` and of all below it, in path order; ``b""`` for all."""
        return rows.under(self._db, directory)

    def counts(self) -> dict[Kind, tuple[int, int]]:
        """How many entries of each kind there were, and their size in bytes."""
        query = "SELECT kind, count(*), sum(size) FROM entries GROUP BY kind"
        found = {Kind(kind): (count, size) for kind, count, size in self._db.execute(query)}
        return {kind: found.get(kind, (0, 0)) for kind in Kind}

    @property
    def applied_index(self) -> int:
        """Log index of the last command that is in it."""
        return rows.meta(self._db, "applied_index")

    @property
    def last_version(self) -> int:
        """The highest version that had been given."""
        return rows.meta(self._db, "version")

    def close(self) -> None:
        """Let go of the file: its bytes stay on the disk for as long as somebody has it open."""
        self._db.close()


class CatalogTransaction:
    """What the state machine may do to the catalog within one log entry."""

    def __init__(self, connection: sqlite3.Connection, index: int, level: int) -> None:
        self._db = connection
        self.index = index
        self.level = level
        self.touched: list[bytes] = []
        self.hash_change = 0

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`."""
        return rows.get(self._db, path)

    def under(self, directory: bytes) -> list[Entry]:
        """The entry of `directory` and of all below it, in path order."""
        return list(rows.under(self._db, directory))

    def has_children(self, directory: bytes) -> bool:
        """Whether anything is in `directory`."""
        low = directory + b"/"
        query = "SELECT 1 FROM entries WHERE path > ? AND path < ? LIMIT 1"
        return self._db.execute(query, (low, rows.after_prefix(low))).fetchone() is not None

    def starting_with(self, prefix: bytes) -> list[Entry]:
        """Entries whose path starts with `prefix`, in path order."""
        found = self._db.execute(
            f"SELECT {rows.COLUMNS} FROM entries WHERE path >= ? AND path < ? ORDER BY path",  # noqa: S608 - constant
            (prefix, rows.after_prefix(prefix)),
        )
        return [rows.entry(row) for row in found]

    def next_version(self) -> int:
        """A version greater than all before it."""
        row = self._db.execute(
            "INSERT INTO meta (name, value) VALUES ('version', 1) "
            "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        ).fetchone()
        return int(row[0])

    def put(self, entry: Entry) -> None:
        """Make `entry` the current one of its path."""
        self._leave_out(entry.path)
        self.hash_change += rows.hash_of(entry)
        self._db.execute(
            f"INSERT OR REPLACE INTO entries ({rows.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
            rows.values(entry),
        )
        self.touched.append(entry.path)

    def remove(self, path: bytes) -> None:
        """Take `path` out of the catalog."""
        self._leave_out(path)
        self._db.execute("DELETE FROM entries WHERE path = ?", (path,))
        self.touched.append(path)

    @contextmanager
    def revising(self, path: bytes) -> Iterator[sqlite3.Connection]:
        """Write into columns of the entry at `path` that came with a level; the hash follows."""
        self._leave_out(path)
        yield self._db
        self.hash_change += rows.hash_of_row(self._db, path)

    def _leave_out(self, path: bytes) -> None:
        """Take the entry that is at `path` out of the hash."""
        self.hash_change -= rows.hash_of_row(self._db, path)

    def raise_level(self, level: int, release: str) -> None:
        """Add what the levels up to `level` add; `release` is for whoever does not know them."""
        for step in LEVELS:
            if self.level < step.number <= level:
                for statement in step.migration:
                    self._db.execute(statement)
        for name, value in (("level", level), ("level_release", release)):
            self._db.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value)
            )
        self.level = level

    def receipt(self, request_id: str) -> bytes | None:
        """The encoded receipt of a request that was applied before."""
        return rows.receipt(self._db, request_id)

    def remember(self, request_id: str, receipt: bytes) -> None:
        """Keep the answer to a request, for its retries."""
        self._db.execute(
            "INSERT INTO requests (id, log_index, receipt) VALUES (?, ?, ?)",
            (request_id, self.index, receipt),
        )

    def forget_receipts(self, before: int) -> None:
        """Forget answers of entries with a log index below `before`."""
        self._db.execute("DELETE FROM requests WHERE log_index < ?", (before,))
