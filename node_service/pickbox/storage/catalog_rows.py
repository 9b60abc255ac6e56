"""What is in a catalog's tables, read through one connection; used by all who read or write it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgpack

from pickbox import __version__
from pickbox.changes import Entry, Kind
from pickbox.levels import FIRST_LEVEL, LEVEL, WrongRelease
from pickbox.storage.digest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION: Final = 1
"""Of the tables as a major release begins; what its minor releases add goes by levels."""

COLUMNS: Final = "path, kind, size, mode, mtime_ns, digest, target, version, origin"
"""Those of an entry, in the order of `Entry`."""

_PAGE: Final = 500


def entry(row: tuple[bytes, int, int, int, int, bytes, bytes, int, str]) -> Entry:
    """The entry in a row of `COLUMNS`."""
    path, kind, size, mode, mtime_ns, digest, target, version, origin = row
    return Entry(path, Kind(kind), size, mode, mtime_ns, digest, target, version, origin)


def values(entry: Entry) -> tuple[object, ...]:
    """An entry as a row of `COLUMNS`."""
    return (
        entry.path,
        int(entry.kind),
        entry.size,
        entry.mode,
        entry.mtime_ns,
        entry.digest,
        entry.target,
        entry.version,
        entry.origin,
    )


def hash_of(entry: Entry) -> int:
    """What an entry alone adds to the state's hash."""
    return int.from_bytes(digest_bytes(msgpack.packb(values(entry))))


def hash_of_row(db: sqlite3.Connection, path: bytes) -> int:
    """What the entry at `path` adds to the state's hash; 0 if nothing is there.

    A column that a level added counts where it has a value, so adding one changes no hash.
    """
    found = db.execute("SELECT * FROM entries WHERE path = ?", (path,))
    row = found.fetchone()
    if row is None:
        return 0
    own = len(Entry.__match_args__)
    added = zip((column[0] for column in found.description[own:]), row[own:], strict=True)
    return hash_of(entry(row[:own])) + sum(
        int.from_bytes(digest_bytes(msgpack.packb([path, name, value])))
        for name, value in added
        if value is not None
    )


def refuse_newer(db: sqlite3.Connection, what: str) -> None:
    """See that this release understands all that is in a catalog.

    Raises:
        WrongRelease: it does not.
    """
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        return
    schema, in_force = meta(db, "schema"), level(db)
    if schema > SCHEMA_VERSION:
        raise WrongRelease(
            f"{what} was written by a newer major release (schema {schema}; {__version__} knows "
            f"{SCHEMA_VERSION}): start that release again, or restore a backup from before it"
        )
    if in_force > LEVEL:
        row = db.execute("SELECT value FROM meta WHERE name = 'level_release'").fetchone()
        raise WrongRelease(
            f"{what} is at level {in_force}, since the upgrade to release {row[0]} was finished, "
            f"and this is {__version__}, which understands up to level {LEVEL}: start release "
            f"{row[0]} or a later one, or restore a backup from before"
        )


def refuse_newer_catalog(path: Path) -> None:
    """See that this release understands the catalog in a file, whether a node runs on it or not.

    Raises:
        WrongRelease: it does not.
        sqlite3.Error: the file cannot be read.
    """
    if path.exists():
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            refuse_newer(db, str(path))


def level(db: sqlite3.Connection) -> int:
    """The level that the cluster was at."""
    return meta(db, "level") or FIRST_LEVEL


def stored_hash(db: sqlite3.Connection) -> int:
    """The sum of all entries' hashes; 0 without any."""
    row = db.execute("SELECT value FROM meta WHERE name = 'state_hash'").fetchone()
    return 0 if row is None else int.from_bytes(row[0])


def get(db: sqlite3.Connection, path: bytes) -> Entry | None:
    """The entry at `path`."""
    row = db.execute(f"SELECT {COLUMNS} FROM entries WHERE path = ?", (path,)).fetchone()  # noqa: S608 - constant
    return None if row is None else entry(row)


def has_content(db: sqlite3.Connection, digest: bytes) -> bool:
    """Whether some file has this content."""
    query = "SELECT 1 FROM entries WHERE digest = ? AND kind = 1 LIMIT 1"
    return db.execute(query, (digest,)).fetchone() is not None


def under(db: sqlite3.Connection, directory: bytes) -> Iterator[Entry]:
    """`directory` and all below it.

    Reads in pages, so that no statement stays open while the caller works.
    """
    if directory:
        own = get(db, directory)
        if own is not None:
            yield own
        low = directory + b"/"
        high = after_prefix(low)
    else:
        low, high = b"", after_prefix(b"")
    while True:
        found = db.execute(
            f"SELECT {COLUMNS} FROM entries WHERE path > ? AND path < ? ORDER BY path LIMIT ?",  # noqa: S608 - constant
            (low, high, _PAGE),
        ).fetchall()
        yield from map(entry, found)
        if len(found) < _PAGE:
            return
        low = found[-1][0]


def after_prefix(prefix: bytes) -> bytes:
    """The smallest path that sorts after everything that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * 5000  # longer than the longest path
    return stripped[:-1] + bytes([stripped[-1] + 1])


def receipt(db: sqlite3.Connection, request_id: str) -> bytes | None:
    """The encoded receipt of a request."""
    row = db.execute("SELECT receipt FROM requests WHERE id = ?", (request_id,)).fetchone()
    return None if row is None else bytes(row[0])


def meta(db: sqlite3.Connection, name: str) -> int:
    """A number that the catalog keeps; 0 if it was never set."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])
