"""What of the folder is on the disk for good, written down after each sync of the volume.

Files are placed without a sync each. At a sync, all that is placed is durable; what is not placed
by then will be later, without a sync of its own, and the log may have forgotten the entry. Those
paths are kept in ``state.db``, with the log index up to which all others are durable.

A loss of power may come at any moment of this. What was written down after the sync before holds
until the next one is done, as the log still has all entries since; and what is written down then is
durable before the log forgets them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.storage.catalog import Catalog
    from pickbox.storage.state import StateDatabase

log = logging.getLogger(__name__)

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS unsynced (path BLOB PRIMARY KEY, digest BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS synced (one INTEGER PRIMARY KEY, log_index INTEGER NOT NULL)",
)
_NOTE_UNSYNCED: Final = "INSERT OR REPLACE INTO unsynced (path, digest) VALUES (?, ?)"
_NOTE_SYNCED: Final = "INSERT OR REPLACE INTO synced (one, log_index) VALUES (1, ?)"
_NOT_PLACED: Final = """
SELECT e.path, k.digest FROM agreed.entries e LEFT JOIN known k ON k.path = e.path
    WHERE k.version IS NOT e.version
UNION ALL
SELECT k.path, k.digest FROM known k
    WHERE NOT EXISTS (SELECT 1 FROM agreed.entries e WHERE e.path = k.path)
"""


class SyncedFolder:
    """Syncs the volume, and remembers which paths that did not make durable. Thread-safe.

    Args:
        directory: where ``state.db`` and ``catalog.db`` are.
        sync: makes everything written so far durable.
    """

    def __init__(
        self, directory: bytes, state: StateDatabase, catalog: Catalog, sync: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._state = state
        self._catalog = catalog
        self._sync = sync
        self._lock = threading.Lock()
        with state.transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    @property
    def index(self) -> int:
        """What the log's entries up to here did to the folder is durable, but for `behind`."""
        found = self._state.query("SELECT log_index FROM synced", ())
        return int(found[0][0]) if found else 0

    def behind(self) -> dict[bytes, bytes]:
        """Paths that were not placed at the last sync -> digest of what was there, or empty."""
        found = self._state.query("SELECT path, digest FROM unsynced", ())
        return {path: digest or b"" for path, digest in found}

    def sync(self) -> None:
        """Sync the volume, and write down what that left out; durable when it returns.

        A row says that its path was placed before the row was written. So what rows and catalog
        agree on before the sync is durable after it.

        Raises:
            OSError, sqlite3.Error: the disk refuses; what was written down before still holds.
        """
        with self._lock:
            index = self._catalog.applied_index
            behind = self._not_placed()
            self._sync()
            with self._state.transaction(durable=True) as connection:
                connection.execute("DELETE FROM unsynced")
                connection.executemany(_NOTE_UNSYNCED, behind)
                connection.execute(_NOTE_SYNCED, (index,))

    def sync_soon(self) -> None:
        """`sync` on a thread of its own. Should it fail, the one before is still what counts."""
        threading.Thread(target=self._try_to_sync, name="sync", daemon=True).start()

    def _try_to_sync(self) -> None:
        try:
            self.sync()
        except (OSError, sqlite3.Error) as error:
            log.warning("folder_not_synced", extra={"fields": {"why": str(error)}})

    def _not_placed(self) -> list[tuple[bytes, bytes | None]]:
        """Where rows and catalog differ; the databases compare, as there may be many."""
        base = os.fsdecode(self._directory)
        state, catalog = (os.path.join(base, name) for name in ("state.db", "catalog.db"))
        with contextlib.closing(sqlite3.connect(state, timeout=30.0)) as connection:
            connection.execute("ATTACH ? AS agreed", (catalog,))
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(_NOT_PLACED).fetchall()
