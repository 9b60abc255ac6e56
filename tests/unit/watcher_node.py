"""A node for the watcher tests: a real folder and state database, and a cluster of one.

`ClusterOfOne` keeps entries and applies changes with version numbers and base checks; it can play
a cluster without a leader. Other nodes' writes are made with `write_elsewhere`.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from authority import NO_FILES, tls_settings

from pickbox.changes import ABSENT, Delete, Entry, Kind, Outcome, Put, Receipt, Status
from pickbox.errors import NoLeader, NotStaged, OutcomeUnknown
from pickbox.settings import Settings
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pickbox.changes import Change


SETTINGS = Settings(
    node_id="node1",
    data_dir="/nonexistent",  # type: ignore[arg-type]
    peers="node1=127.0.0.1:8001",  # type: ignore[arg-type]
    **tls_settings(NO_FILES),
    settle_seconds=0.1,
    scan_interval=3600.0,
)


def wait_until(condition: Callable[[], Any], timeout: float = 60.0) -> None:
    """Return as soon as `condition` holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


class ClusterOfOne:
    """Implements ChangeProposer and CatalogReader."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[bytes, Entry] = {}
        self._version = 0
        self.submissions: list[tuple[Change, ...]] = []
        self.staged: list[Put] = []
        self.has_leader = True
        self.can_stage = True
        self.while_staging: Callable[[Put], None] = lambda put: None
        self.lose_next_answer = False
        self.loses_answers = False
        self.never_commits = False
        self._receipts: dict[str, Receipt] = {}

    # CatalogReader

    def get(self, path: bytes) -> Entry | None:
        with self._lock:
            return self._entries.get(path)

    def under(self, directory: bytes) -> Iterator[Entry]:
        with self._lock:
            below = sorted(self._entries.values(), key=lambda entry: entry.path)
        prefix = directory + b"/"
        return (
            e for e in below if not directory or e.path == directory or e.path.startswith(prefix)
        )

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        found = (e for e in self.under(b"") if e.path.startswith(prefix) and e.path > after)
        return list(found)[:limit]

    @property
    def applied_index(self) -> int:
        return len(self.submissions)

    @property
    def last_version(self) -> int:
        return self._version

    # ChangeProposer

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        with self._lock:
            if not self.has_leader:
                raise NoLeader("nobody leads")
            if self.never_commits:
                raise OutcomeUnknown("still under way")
            if request_id in self._receipts and not self.loses_answers:
                return self._receipts[request_id]
            if request_id not in self._receipts:
                outcomes = tuple(self._apply(change) for change in changes)
                self.submissions.append(tuple(changes))
                receipt = Receipt(request_id or "id", len(self.submissions), outcomes)
                self._receipts[receipt.request_id] = receipt
            if self.loses_answers:
                raise OutcomeUnknown("no answer")
            if self.lose_next_answer:
                self.lose_next_answer = False
                raise NoLeader("the answer was lost")
            return receipt

    def stage(self, put: Put, *, timeout: float) -> Put:
        self.while_staging(put)
        if not self.can_stage:
            raise NotStaged("no majority")
        self.staged.append(put)
        return replace(put, holders=("node1", "node2"))

    def stage_all(self, puts: Sequence[Put], *, timeout: float) -> list[Put]:
        return [self.stage(put, timeout=timeout) for put in puts]

    def _apply(self, change: Change) -> Outcome:
        assert isinstance(change, Put | Delete)
        current = self._entries.get(change.path)
        version = current.version if current else ABSENT
        if isinstance(change, Delete):
            return self._delete(change, current, version)
        entry = _entry(change, self._version + 1)
        if current is not None and replace(current, version=0) == replace(entry, version=0):
            return Outcome(Status.UNCHANGED, version, change.path)
        if change.base == version or current is None or change.kind is Kind.DIRECTORY:
            if change.kind is not Kind.DIRECTORY and len(list(self.under(change.path))) > 1:
                return self._keep_both(change, entry, version)
            self._version += 1
            self._entries[change.path] = entry
            return Outcome(Status.APPLIED, entry.version, change.path)
        if current.digest == change.digest:
            return Outcome(Status.UNCHANGED, version, change.path)
        return self._keep_both(change, entry, version)

    def _keep_both(self, change: Put, entry: Entry, version: int) -> Outcome:
        self._version += 1
        copy = change.path + b".sync-conflict-20260101-000000-node1"
        self._entries[copy] = replace(entry, path=copy, version=self._version)
        return Outcome(Status.CONFLICT, version, copy)

    def _delete(self, change: Delete, current: Entry | None, version: int) -> Outcome:
        if current is None:
            return Outcome(Status.UNCHANGED, 0, change.path)
        if change.base != version:
            return Outcome(Status.DROPPED, version, change.path)
        if len(list(self.under(change.path))) > 1:
            return Outcome(Status.DROPPED, version, change.path, "directory-not-empty")
        self._version += 1
        del self._entries[change.path]
        return Outcome(Status.APPLIED, 0, change.path)

    # What the tests do and ask.

    def write_elsewhere(self, path: bytes, data: bytes, mtime_ns: int = 1) -> Entry:
        """Another node's version of a file."""
        put = Put(path, Kind.FILE, len(data), 0o644, mtime_ns, digest_bytes(data))
        return self.agree_elsewhere(_entry(put, ABSENT))

    def agree_elsewhere(self, entry: Entry) -> Entry:
        """Another node's version of whatever `entry` is."""
        with self._lock:
            self._version += 1
            entry = self._entries[entry.path] = replace(entry, version=self._version)
            return entry

    def delete_elsewhere(self, path: bytes) -> None:
        with self._lock:
            self._version += 1
            del self._entries[path]

    def paths(self) -> list[bytes]:
        with self._lock:
            return sorted(self._entries)

    def changes(self, path: bytes | None = None) -> list[Change]:
        """All changes proposed so far, or those of one path."""
        with self._lock:
            every = [change for submission in self.submissions for change in submission]
        return [change for change in every if path in (None, change.path)]


def _entry(put: Put, version: int) -> Entry:
    time_ns = 0 if put.kind is Kind.DIRECTORY else put.mtime_ns
    return Entry(
        put.path, put.kind, put.size, put.mode, time_ns, put.digest, put.target, version, "node1"
    )


class RequestedPlacements:
    """A placer that only notes what it was asked for."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.in_hand: set[bytes] = set()

    def request(self, paths: Iterable[bytes]) -> None:
        self.paths += paths

    def has_in_hand(self, path: bytes) -> bool:
        return path in self.in_hand


class Counts:
    """WatcherMetrics."""

    def __init__(self) -> None:
        self.scans: list[str] = []
        self.overflows = 0
        self.events = 0
        self.settled: list[str] = []
        self.conflicts = 0
        self.skips = 0
        self.failures: list[str] = []

    def scanned(self, reason: str, seconds: float) -> None:
        self.scans.append(reason)

    def overflowed(self) -> None:
        self.overflows += 1

    def event_seen(self) -> None:
        self.events += 1

    def change_settled(self, result: str, seconds: float) -> None:
        self.settled.append(result)

    def conflict_taken(self) -> None:
        self.conflicts += 1

    def skipped(self) -> None:
        self.skips += 1

    def failed(self, cause: str) -> None:
        self.failures.append(cause)


@dataclass
class Node:
    """Everything a watcher is given, over one data directory that outlives restarts."""

    data: Path
    cluster: ClusterOfOne = field(default_factory=ClusterOfOne)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = self.data / "files"
        self.placer = RequestedPlacements()
        self.counts = Counts()
        self.tree = FileTree(os.fsencode(self.files))
        self.tree.prepare("node1")
        self.state = StateDatabase(os.fsencode(self.data / "state.db"))
        self.watcher = self._new_watcher()

    def _new_watcher(self) -> Watcher:
        return Watcher(
            SETTINGS.model_copy(update={"data_dir": self.data, **self.settings}),
            self.tree,
            self.state,
            self.cluster,
            self.cluster,
            self.placer,
            Staging(os.fsencode(self.data / "staging")),
            DiskGuard(os.fsencode(self.data), 0),
            self.counts,
        )

    @contextmanager
    def running(self, *, settled: bool = True) -> Iterator[Watcher]:
        """The watcher, started; after the first scan's findings are through if `settled`."""
        self.watcher = self._new_watcher()
        self.watcher.start()
        try:
            if settled:
                wait_until(lambda: self.watcher.scan_done and self.watcher.idle())
            yield self.watcher
        finally:
            self.watcher.stop()

    def wait_for_peace(self) -> None:
        """Wait until the folder and the catalog say the same, and nothing is under way."""
        wait_until(lambda: self.on_disk() == self.in_catalog() and self.watcher.idle())

    def scan(self) -> None:
        """Run a full scan, and wait until what it found is through."""
        done = len(self.counts.scans)
        self.watcher.rescan("test")
        wait_until(lambda: len(self.counts.scans) > done and self.watcher.idle())

    def on_disk(self) -> dict[bytes, bytes]:
        """What is in the folder: path -> content, link target, or ``b"<dir>"``."""
        found: dict[bytes, bytes] = {}
        root = os.fsencode(self.files)
        for directory, names, files in os.walk(root):
            if directory == root:
                names.remove(b".pickbox")
            for name in (*names, *files):
                path = os.path.join(directory, name)
                found[os.path.relpath(path, root)] = _content(path)
        return found

    def in_catalog(self) -> dict[bytes, bytes]:
        """The same of the catalog; file contents as digests are compared by `on_disk`'s bytes."""
        shown = {}
        for entry in self.cluster.under(b""):
            if entry.kind is Kind.DIRECTORY:
                shown[entry.path] = b"<dir>"
            else:
                shown[entry.path] = entry.digest
        return shown


def _content(path: bytes) -> bytes:
    try:
        if os.path.islink(path):
            return digest_bytes(os.readlink(path))
        if os.path.isdir(path):
            return b"<dir>"
        with open(path, "rb") as file:
            return digest_bytes(file.read())
    except FileNotFoundError:
        return b"<gone>"
