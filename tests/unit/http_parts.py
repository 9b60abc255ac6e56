"""What is behind the listeners of a node in the HTTP tests, in the place of a cluster.

`FolderFiles` keeps files in a directory and answers as `pickbox.seams.FileService` says.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from blake3 import blake3

from pickbox.backup.manifest import Manifest
from pickbox.changes import ABSENT, Entry, Kind, Outcome, Receipt, Status, base_holds
from pickbox.errors import (
    BadRequest,
    ChangeTooEarly,
    DiskFull,
    NoLeader,
    NotEmpty,
    NotFound,
    PathTaken,
    PreconditionFailed,
    TooLarge,
    UpgradeRefused,
)
from pickbox.members import Member, Members
from pickbox.seams import Written
from pickbox.status import (
    Check,
    ClusterStatus,
    Figures,
    Health,
    HeldDeletes,
    NodeStatus,
    UnderstoodBy,
    UpgradeStatus,
)
from pickbox.storage.paths import check_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pickbox.settings import Settings


class FolderFiles:
    """Files with versions, bases and receipts, on disk; one lock makes writes atomic."""

    def __init__(self, directory: Path, max_file_size: int) -> None:
        self._directory = directory
        self._max_file_size = max_file_size
        self._lock = threading.RLock()
        self._entries: dict[bytes, Entry] = {}
        self._receipts: dict[str, tuple[Receipt, Written]] = {}
        self._version = 0
        self.barriers = 0

    def entry(self, path: bytes, *, linearizable: bool = False) -> Entry:
        check_path(path)
        self.barriers += linearizable
        found = self._entries.get(path)
        if found is None:
            raise NotFound("Nothing is at this path.", field="path")
        return found

    def get(self, path: bytes) -> Entry | None:
        return self._entries.get(path)

    def open(self, entry: Entry) -> BinaryIO:
        return open(self._directory / entry.digest.hex(), "rb")

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        paths = sorted(p for p in self._entries if p.startswith(prefix) and p > after)
        return [self._entries[path] for path in paths[:limit]]

    def put(
        self,
        path: bytes,
        body: BinaryIO,
        *,
        length: int | None,
        base: int,
        mode: int | None,
        mtime_ns: int | None,
        request_id: str | None,
    ) -> Written:
        check_path(path)
        with self._lock:
            if request_id in self._receipts:
                return self._receipts[request_id][1]
            self._check_base(path, base)
            old = self._entries.get(path)
            if old is not None and old.kind is Kind.DIRECTORY:
                raise PathTaken("A directory is there.", field="path")
        digest, size = self._store(body, length)
        with self._lock:
            self._check_base(path, base)
            self._make_parents(path)
            mode = (old.mode if old else 0o644) if mode is None else mode
            mtime = time.time_ns() if mtime_ns is None else mtime_ns
            return self._commit(path, Kind.FILE, size, mode, mtime, digest, b"", request_id)

    def _store(self, body: BinaryIO, length: int | None) -> tuple[bytes, int]:
        hasher, size = blake3(), 0
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
            while chunk := body.read(1 << 20):
                size += len(chunk)
                if size > self._max_file_size:
                    raise TooLarge("The file is too large.")
                hasher.update(chunk)
                file.write(chunk)
        if length is not None and size != length:
            raise BadRequest("The body is shorter than announced.")
        os.replace(file.name, self._directory / hasher.hexdigest())
        return hasher.digest(), size

    def symlink(self, path: bytes, target: bytes) -> None:
        self._commit(path, Kind.SYMLINK, len(target), 0o777, 1, b"\1" * 32, target, "link")

    def make_directory(
        self, path: bytes, *, base: int, mode: int | None, request_id: str | None
    ) -> Written:
        check_path(path)
        with self._lock:
            if request_id in self._receipts:
                return self._receipts[request_id][1]
            self._check_base(path, base)
            old = self._entries.get(path)
            if old is not None and old.kind is not Kind.DIRECTORY:
                raise PathTaken("A file is there.", field="path")
            self._make_parents(path)
            mode = 0o755 if mode is None else mode
            return self._commit(path, Kind.DIRECTORY, 0, mode, 0, b"", b"", request_id)

    def delete(self, path: bytes, *, base: int, recursive: bool, request_id: str | None) -> Written:
        check_path(path)
        with self._lock:
            if request_id in self._receipts:
                return self._receipts[request_id][1]
            self.entry(path)
            self._check_base(path, base)
            inside = [p for p in self._entries if p.startswith(path + b"/")]
            if inside and not recursive:
                raise NotEmpty("The directory is not empty.", field="path")
            for gone in (path, *inside):
                del self._entries[gone]
            return self._done(path, 0, b"", created=False, request_id=request_id)

    def move(
        self,
        path: bytes,
        destination: bytes,
        *,
        base: int,
        destination_base: int,
        request_id: str | None,
    ) -> Written:
        check_path(path)
        check_path(destination)
        with self._lock:
            if request_id in self._receipts:
                return self._receipts[request_id][1]
            self.entry(path)
            self._check_base(path, base)
            self._check_base(destination, destination_base)
            if destination == path or destination.startswith(path + b"/"):
                raise PathTaken("The destination is inside of the source.", field="destination")
            self._make_parents(destination)
            for old in [p for p in self._entries if p == path or p.startswith(path + b"/")]:
                self._version += 1
                moved = self._entries.pop(old)
                new = destination + old[len(path) :]
                self._entries[new] = _replace(moved, new, self._version)
            entry = self._entries[destination]
            return self._done(
                destination, entry.version, entry.digest, created=True, request_id=request_id
            )

    def receipt(self, request_id: str) -> Receipt:
        if request_id not in self._receipts:
            raise NotFound("No request with this id was applied.", field="request_id")
        return self._receipts[request_id][0]

    def _check_base(self, path: bytes, base: int) -> None:
        current = self._entries.get(path)
        version = current.version if current else ABSENT
        if not base_holds(base, version):
            raise PreconditionFailed(f"The current version is {version}.", field="If-Match")

    def _make_parents(self, path: bytes) -> None:
        parts = path.split(b"/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = b"/".join(parts[:count])
            entry = self._entries.get(parent)
            if entry is None:
                self._commit(parent, Kind.DIRECTORY, 0, 0o755, 0, b"", b"", None)
            elif entry.kind is not Kind.DIRECTORY:
                raise PathTaken("A parent is not a directory.", field="path")

    def _commit(
        self,
        path: bytes,
        kind: Kind,
        size: int,
        mode: int,
        mtime_ns: int,
        digest: bytes,
        target: bytes,
        request_id: str | None,
    ) -> Written:
        with self._lock:
            created = path not in self._entries
            self._version += 1
            self._entries[path] = Entry(
                path, kind, size, mode, mtime_ns, digest, target, self._version, "node1"
            )
            return self._done(path, self._version, digest, created=created, request_id=request_id)

    def _done(
        self, path: bytes, version: int, digest: bytes, *, created: bool, request_id: str | None
    ) -> Written:
        written = Written(path, version, digest, self._version, created, request_id or "")
        outcome = Outcome(Status.APPLIED, version, path)
        if request_id:
            receipt = Receipt(request_id, self._version, (outcome,))
            self._receipts[request_id] = (receipt, written)
        return written


def _replace(entry: Entry, path: bytes, version: int) -> Entry:
    return Entry(
        path,
        entry.kind,
        entry.size,
        entry.mode,
        entry.mtime_ns,
        entry.digest,
        entry.target,
        version,
        entry.origin,
    )


@dataclass
class Controls:
    """A node's controls whose state the tests set."""

    is_live: bool = True
    draining: bool = False
    standing: str = ""
    checks: list[Check] = field(default_factory=lambda: [Check("leader", ok=True)])
    leader: str | None = "node1"
    held: HeldDeletes = field(default_factory=HeldDeletes)
    others: tuple[NodeStatus, ...] = ()
    raises: Exception | None = None
    not_now: str = ""
    """Why no backup is made now."""

    def live(self) -> bool:
        return self.is_live

    def health(self) -> Health:
        draining = Check("draining", not self.draining, "The node drains." * self.draining)
        return Health("node1", (*self.checks, draining))

    def status(self) -> NodeStatus:
        if self.raises is not None:
            raise self.raises
        health = self.health()
        return NodeStatus(
            "node1",
            reachable=True,
            version="0.1.0",
            level=1,
            understands=1,
            role="leader" if self.leader == "node1" else "follower",
            leader=self.leader,
            term=3,
            commit_index=41,
            applied_index=41,
            last_index=42,
            ready=health.ready,
            draining=self.draining,
            reasons=health.reasons,
            warnings=health.warnings,
            figures=Figures(files=2, bytes=10, files_replicated=3, replication_errors=1),
        )

    def cluster(self) -> ClusterStatus:
        nodes = (self.status(), *self.others)
        return ClusterStatus(
            "pickbox",
            self.leader,
            3,
            len(nodes) // 2 + 1,
            self.leader is not None,
            nodes,
            1,
            self.standing,
        )

    def mark(self) -> object:
        return self.leader, self.draining

    def transfer_leadership(self, target: str | None) -> str:
        if target == "node9":
            raise NotFound("No member is called node9.", field="target")
        if self.leader is None:
            raise NoLeader("There is no leader.")
        self.leader = target or "node2"
        return self.leader

    def drain(self) -> None:
        self.draining = True

    def undrain(self) -> None:
        self.draining = False

    def held_deletes(self) -> HeldDeletes:
        return self.held

    def approve_deletes(self) -> int:
        count, self.held = self.held.count, HeldDeletes()
        return count

    def restore_deletes(self) -> int:
        return self.approve_deletes()

    def snapshot(self) -> int:
        return 41


class MembersOfOne:
    """The members of a cluster that begins with node1 alone; a learner is never caught up."""

    def __init__(self, settings: Settings) -> None:
        self._members = Members(1, (Member("node1", settings.peers["node1"].address),))
        self.forced = False

    def members(self) -> Members:
        return self._members

    def add(self, node_id: str, address: str) -> Members:
        learner = Member(node_id, address, voter=False)
        self._members = Members(self._members.version + 1, (*self._members.nodes, learner))
        return self._members

    def promote(self, node_id: str) -> Members:
        raise ChangeTooEarly(f"{node_id} lacks 7 entries: wait until it has caught up")

    def remove(self, node_id: str, *, force: bool = False) -> Members:
        if self._members.get(node_id) is None:
            raise NotFound(f"{node_id} is not a member", field="node_id")
        self.forced = force
        kept = tuple(member for member in self._members.nodes if member.node_id != node_id)
        self._members = Members(self._members.version + 1, kept)
        return self._members


class UpgradeOfOne:
    """An upgrade that is finished by being asked to, unless a member lags."""

    def __init__(self) -> None:
        self.level = 1
        self.lagging = ""

    def status(self) -> UpgradeStatus:
        return UpgradeStatus(self.level, 2, (UnderstoodBy("node1", "0.2.0", 2),))

    def finish(self) -> UpgradeStatus:
        if self.lagging:
            raise UpgradeRefused(f"the cluster stays at level {self.level}: {self.lagging}")
        self.level = 2
        return self.status()


class PointsOfNothing:
    """Makes a point with nothing in it, and takes it in; a wait of 0 seconds is not enough."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()

    def make(self, directory: bytes, wait: float, done: Callable[[int], None]) -> Manifest:
        self.may_end.wait(20)
        if not wait:
            raise DiskFull("The volume took no more.")
        done(0)
        return Manifest(1, "pickbox", "node1", "0.1.0", "now", 41, 7, 0, 0, 0, 0, "blake3:")

    def restore(
        self, directory: bytes, folder: bytes, *, over: bool, done: Callable[[int], None]
    ) -> dict[str, Any]:
        self.may_end.wait(20)
        return {"index": 41, "folder": folder.decode(), "over": over}
