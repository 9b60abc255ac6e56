"""Makes the folder say what the catalog says: one path at a time, idempotent, by rename.

What a person did meanwhile always wins over placement: where the disk is not what the state manager
knows, the path goes to the watcher first (`DirtyPaths.mark`), and comes back after its change is
taken in.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.errors import DiskFull
from pickbox.replication.placement_steps import ContentMissing, NotYet, PlacementSteps
from pickbox.replication.swaps import StillOpen
from pickbox.storage.placement import ChangedMeanwhile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pickbox.changes import Entry
    from pickbox.replication.transfer import Fetcher
    from pickbox.seams import CatalogReader, DirtyPaths

log = logging.getLogger(__name__)

_BATCH: Final = 256
_RETRY_FIRST: Final = 0.05
_RETRY_LONGEST: Final = 10.0
_WAIT_LONGEST: Final = 0.5
_FETCHERS: Final = 4


class PlacerMetrics(Protocol):
    """What placement counts."""

    def placed(self, kind: str, size: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...


class Placer:
    """Implements `pickbox.seams.Placer` with one placing thread and a few fetching ones.

    Args:
        sources: ids of the nodes to ask for an entry's content, best first.
        blocked: why nothing may be placed now (the folder is not intact, say); empty if it may.
    """

    def __init__(
        self,
        steps: PlacementSteps,
        catalog: CatalogReader,
        fetcher: Fetcher,
        *,
        sources: Callable[[Entry], Iterable[str]],
        blocked: Callable[[], str],
        metrics: PlacerMetrics,
    ) -> None:
        self._steps = steps
        self._catalog = catalog
        self._fetcher = fetcher
        self._sources = sources
        self._blocked = blocked
        self._metrics = metrics
        self._dirty: DirtyPaths | None = None
        self._changed = threading.Condition()
        self._due: dict[bytes, float] = {}
        self._retries: dict[bytes, int] = {}
        self._fetching: set[bytes] = set()
        self._pending: dict[bytes, float] = {}  # since when
        self._working = False
        self._stopping = False
        self._pool = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch")
        self._thread = threading.Thread(target=self._run, name="placer", daemon=True)

    def start(self, dirty: DirtyPaths) -> None:
        """Start placing; paths that people changed go to `dirty`."""
        self._dirty = dirty
        self._thread.start()

    def stop(self) -> None:
        """Stop after the path at hand. The rest is found again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def alive(self) -> bool:
        """Whether the placing thread runs."""
        return self._thread.is_alive()

    def request(self, paths: Iterable[bytes]) -> None:
        """Have `paths` placed soon."""
        with self._changed:
            for path in paths:
                self._due[path] = 0.0
            self._changed.notify_all()

    @property
    def queued(self) -> int:
        """How many paths wait to be placed."""
        with self._changed:
            return len(self._due)

    @property
    def pending(self) -> int:
        """How many entries are committed while this node lacks their content."""
        with self._changed:
            return len(self._pending)

    @property
    def pending_seconds(self) -> float:
        """For how long the one of them was missing that has been for longest; 0 if there is none.

        Versions of one path count together: a file that changes faster than it comes never comes.
        """
        with self._changed:
            now = time.monotonic()
            return now - min(self._pending.values(), default=now)

    def idle(self) -> bool:
        """Whether the folder has everything that was asked for."""
        with self._changed:
            return not (self._due or self._fetching or self._working)

    def wants(self, paths: Collection[bytes]) -> bool:
        """Whether any of `paths` was asked for and is not placed yet."""
        with self._changed:
            return any(
                path in self._due or path in self._fetching or self.has_in_hand(path)
                for path in paths
            )

    # -- the placing thread -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            try:
                if self._announce(batch):
                    for path in self._in_order(batch):
                        self._place(path)
                    self._flush(batch)
                self._steps.let_go_of_all()
            except Exception:  # whatever it was, the thread goes on, and so do the paths
                log.exception("placing_failed", extra={"fields": {"paths": len(batch)}})
                for path in batch:
                    self._retry(path, "internal")

    def _take(self) -> list[bytes] | None:
        """Some due paths; None when it is time to stop."""
        with self._changed:
            self._working = False
            self._changed.notify_all()  # what was in hand is placed
            while not self._stopping:
                now = time.monotonic()
                due = [path for path, at in self._due.items() if at <= now]
                if due and not self._blocked():
                    batch = due[:_BATCH]
                    for path in batch:
                        del self._due[path]
                    self._working = True
                    return batch
                soonest = min(self._due.values(), default=now + 60.0)
                self._changed.wait(max(0.5 if due else 0.01, min(60.0, soonest - now)))
            return None

    def _in_order(self, batch: list[bytes]) -> list[bytes]:
        """Directories before what is put into them, and after what is removed from them."""
        puts = [path for path in batch if self._catalog.get(path) is not None]
        removals = set(batch).difference(puts)
        return sorted(puts) + sorted(removals, reverse=True)

    def _place(self, path: bytes) -> None:
        try:
            outcome = self._steps.place(path)
        except ContentMissing as missing:
            self._fetch(missing.entry)
        except ChangedMeanwhile as changed:
            self._hand_to_watcher(changed.path)
            if changed.path != path:  # a directory above it, which the watcher has to settle first
                self._retry(path, "waiting")
        except (NotYet, StillOpen):
            self._retry(path, "waiting")
        except DiskFull:
            self._retry(path, "disk_full")
        except (OSError, sqlite3.Error) as error:
            log.warning("placement_failed", extra={"fields": {"path": path, "why": str(error)}})
            self._retry(path, "placement")
        else:
            self._forget_trouble(path)
            if outcome is not None:
                self._metrics.placed(*outcome)

    def _announce(self, batch: list[bytes]) -> bool:
        try:
            self._steps.announce(batch)
        except sqlite3.Error as error:
            self._state_refused(batch, error)
            return False
        return True

    def _flush(self, batch: list[bytes]) -> None:
        try:
            self._steps.flush()
        except sqlite3.Error as error:  # the rows are found again from the disk
            self._state_refused(batch, error)

    def _state_refused(self, batch: list[bytes], error: sqlite3.Error) -> None:
        """A full disk, most likely."""
        log.warning("state_not_written", extra={"fields": {"why": str(error)}})
        for path in batch:
            self._retry(path, "state")

    def has_in_hand(self, path: bytes) -> bool:
        """Whether `path` is being placed, or was and its row is not written yet."""
        return self._steps.has_in_hand(path)

    def wait_for(self, path: bytes, timeout: float) -> bool:
        """Wait while `path` is in hand: its content may be between two places then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.has_in_hand(path), timeout)

    def _hand_to_watcher(self, path: bytes) -> None:
        self._forget_trouble(path)
        self._steps.let_go([path])
        if self._dirty is not None:
            self._dirty.mark(path)

    def _retry(self, path: bytes, cause: str) -> None:
        """Come back to `path` later, and ever later; soon if only something else comes first."""
        with self._changed:
            tries = self._retries[path] = self._retries.get(path, 0) + 1
            longest = _WAIT_LONGEST if cause == "waiting" else _RETRY_LONGEST
            pause = min(longest, _RETRY_FIRST * 2 ** min(tries, 10))
            self._due.setdefault(path, time.monotonic() + pause)
        if cause != "waiting":
            self._metrics.replication_error(cause)

    def _forget_trouble(self, path: bytes) -> None:
        with self._changed:
            self._retries.pop(path, None)
            self._pending.pop(path, None)

    # -- content that is still elsewhere ----------------------------------------------------

    def _fetch(self, entry: Entry) -> None:
        with self._changed:
            self._pending.setdefault(entry.path, time.monotonic())
            if self._stopping or entry.path in self._fetching:
                return
            self._fetching.add(entry.path)
        self._pool.submit(self._bring, entry)

    def _bring(self, entry: Entry) -> None:
        here = False
        try:
            here = self._fetcher.fetch(entry.digest, entry.size, self._sources(entry))
        except (DiskFull, OSError, sqlite3.Error) as error:
            log.warning("fetch_refused", extra={"fields": {"path": entry.path, "why": str(error)}})
        except Exception:  # whatever it was, it is tried again; the future would tell nobody
            log.exception("fetch_refused", extra={"fields": {"path": entry.path}})
        with self._changed:
            self._fetching.discard(entry.path)
        if here:
            self.request([entry.path])
        else:
            self._retry(entry.path, "content_missing")
            with self._changed:
                self._changed.notify_all()
