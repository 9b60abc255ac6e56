"""Replaced and deleted files, kept for a set time under the digest of their content.

Files are in one flat directory of the folder's volume, so that keeping one is a rename. Which
path and version each was is in a table of ``state.db``.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import stat as st
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from pickbox.changes import DIGEST_BYTES, Kind
from pickbox.storage.digest import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.known import KnownState
    from pickbox.storage.state import StateDatabase

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS versions (
        path BLOB NOT NULL, version INTEGER NOT NULL, kind INTEGER NOT NULL, digest BLOB NOT NULL,
        size INTEGER NOT NULL, mode INTEGER NOT NULL, mtime_ns BLOB NOT NULL,
        kept_at REAL NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS versions_by_path ON versions (path, kept_at)",
    "CREATE INDEX IF NOT EXISTS versions_by_digest ON versions (digest)",
    "CREATE INDEX IF NOT EXISTS versions_by_age ON versions (kept_at)",
)
_LIST: Final = (
    "SELECT path, version, kind, digest, size, mode, mtime_ns, kept_at FROM versions "
    "WHERE path = ? ORDER BY kept_at DESC, version DESC"
)
_KEEP: Final = (
    "INSERT INTO versions (path, version, kind, digest, size, mode, mtime_ns, kept_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_REFERRED: Final = "SELECT 1 FROM versions WHERE digest = ? LIMIT 1"
_HEX_DIGEST = re.compile(rb"[0-9a-f]{%d}" % (2 * DIGEST_BYTES))


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """One replaced or deleted file that is still to be had.

    Attributes:
        kept_at: when it was replaced or deleted, seconds since the epoch.
    """

    path: bytes
    version: int
    kind: Kind
    digest: bytes
    size: int
    mode: int
    mtime_ns: int
    kept_at: float


class Versions:
    """The versions directory of a node. Thread-safe; made when it is missing.

    Args:
        directory: in the folder's volume.
        state: the database whose ``versions`` table is the index.
        keep_seconds: how long each is kept.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        directory: bytes,
        state: StateDatabase,
        keep_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._state = state
        self._keep_seconds = keep_seconds
        self._clock = clock
        # Held while a file and its row come or go: a sweep never sees one without the other.
        self._lock = threading.Lock()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with state.transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    def keep(self, path: bytes, known: KnownState) -> None:
        """Take the file or symlink at `path` (absolute, same volume) in; `path` is gone afterwards.

        `known` says what it was: its path in the folder, version, digest, mode and mtime.

        Raises:
            ValueError: `known` is a directory, which has no content to keep.
            OSError: the disk refuses; what is at `path` is still there.
        """
        if known.kind is Kind.DIRECTORY:
            raise ValueError("a directory has no content to keep")
        with self._lock:
            self._take(path, known)
            self._index(known)

    def open(self, digest: bytes) -> BinaryIO | None:
        """The content with that digest from its first byte, or None if it is not kept.

        The file was placed by a rename: a process that still had it open for writing may have
        changed it since, so whoever restores it compares the digest.
        """
        try:
            return open(self._path(digest), "rb")
        except FileNotFoundError:
            return None

    def list(self, path: bytes) -> list[KeptVersion]:
        """What is kept of `path`, latest first."""
        return [
            KeptVersion(path, version, Kind(kind), digest, size, mode, int(mtime_ns), kept_at)
            for path, version, kind, digest, size, mode, mtime_ns, kept_at in self._state.query(
                _LIST, (path,)
            )
        ]

    def sweep(self) -> int:
        """Drop what is older than `keep_seconds`; return how many files were removed."""
        oldest = self._clock() - self._keep_seconds
        with self._state.transaction() as connection:
            connection.execute("DELETE FROM versions WHERE kept_at <= ?", (oldest,))
        return sum(self._remove_unreferred(name) for name in os.listdir(self._directory))

    def _path(self, digest: bytes) -> bytes:
        return os.path.join(self._directory, digest.hex().encode("ascii"))

    def _take(self, path: bytes, known: KnownState) -> None:
        """Give the content its name here; one that is there already has the same bytes."""
        found = os.lstat(path)
        destination = self._path(known.digest)
        if st.S_ISLNK(found.st_mode):
            self._store(io.BytesIO(os.readlink(path)), destination)
            os.unlink(path)
        elif found.st_nlink > 1:
            # Another name of the same file is still in use, and writing there must not change this.
            with open(path, "rb") as content:
                self._store(content, destination)
            os.unlink(path)
        else:
            if not found.st_mode & st.S_IRUSR:
                os.chmod(path, 0o600)
            os.rename(path, destination)

    def _store(self, content: BinaryIO, destination: bytes) -> None:
        temporary = os.path.join(self._directory, b"tmp-" + secrets.token_hex(8).encode("ascii"))
        try:
            with open(temporary, "xb") as target:
                shutil.copyfileobj(content, target, READ_BYTES)
            os.rename(temporary, destination)
        except OSError:
            _unlink(temporary)
            raise

    def _index(self, known: KnownState) -> None:
        row = (
            known.path,
            known.version,
            int(known.kind),
            known.digest,
            known.size,
            known.mode,
            str(known.mtime_ns).encode("ascii"),
            self._clock(),
        )
        with self._state.transaction() as connection:
            connection.execute(_KEEP, row)

    def _remove_unreferred(self, name: bytes) -> bool:
        with self._lock:
            if _HEX_DIGEST.fullmatch(name):
                digest = bytes.fromhex(name.decode("ascii"))
                if self._state.query(_REFERRED, (digest,)):
                    return False
            return _unlink(os.path.join(self._directory, name))


def _unlink(path: bytes) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
