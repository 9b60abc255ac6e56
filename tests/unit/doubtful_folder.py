"""A folder whose disk loses power: its rows, its catalog, its log, and what a start makes of it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from blake3 import blake3

from pickbox.changes import ANY_VERSION, Change, Kind, Put, Submission
from pickbox.codec import encode_command
from pickbox.known import KnownState
from pickbox.replication.inline import InlineContent
from pickbox.replication.state_machine import StateMachine
from pickbox.storage.catalog import Catalog
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.synced import SyncedFolder
from pickbox.storage.tree import FileTree
from pickbox.watcher.doubt import Doubts

if TYPE_CHECKING:
    from pathlib import Path

MTIME = 1_700_000_000_000_000_000
LATER = MTIME + 60 * 10**9
LONG = b"a line of what was written\n" * 100


class Folder:
    """A folder with its rows, catalog and log, in step until somebody disturbs the disk."""

    def __init__(self, directory: Path) -> None:
        base = bytes(directory)
        self.directory = directory
        self.files = directory / "files"
        self.tree = FileTree(bytes(self.files))
        self.tree.prepare("node1")
        self.state = StateDatabase(base + b"/state.db")
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.staging = Staging(base + b"/staging")
        self.syncs = 0
        self.refusal: OSError | None = None
        self.synced = SyncedFolder(base, self.state, self.catalog, self._sync)
        self.log: list[tuple[int, bytes]] = []
        self.snapshot: tuple[str, int] | None = None
        self._indexes = itertools.count(2)

    def close(self) -> None:
        self.state.close()
        self.catalog.close()

    def _sync(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.syncs += 1

    def machine(self, doubts: Doubts | None = None) -> StateMachine:
        """The state machine of a node that starts."""
        return StateMachine(
            self.catalog,
            InlineContent(self.staging),
            in_folder=lambda submission, put: False,
            on_applied=lambda index, touched, _: doubts and doubts.note_touched(index, touched),
            on_loaded=lambda: None,
            before_snapshot=self.synced.sync,
            on_recalled=doubts.note if doubts else lambda index, submissions: None,
            on_recalled_from=doubts.note_snapshot if doubts else None,
        )

    def commit(self, *changes: Change, request_id: str = "") -> int:
        """Have the cluster agree on changes; the index of their entry."""
        index = next(self._indexes)
        submission = Submission(request_id or f"request {index}", "node2", 1, changes)
        self.log.append((index, encode_command([submission])))
        self.machine().apply(*self.log[-1])
        return index

    def append(self, *changes: Change) -> None:
        """Changes that are in this node's log, and were never committed."""
        index = next(self._indexes)
        submission = Submission(f"request {index}", "node1", 1, changes)
        self.log.append((index, encode_command([submission])))

    def place(self, path: str, content: bytes, *, inline: bool = True) -> None:
        """Commit a file and place it, as a node does."""
        put = file(path, content, inline=inline)
        self.commit(put)
        self.write(path, content)
        self.know(path)

    def write(self, path: str, content: bytes, mtime_ns: int = MTIME) -> None:
        (self.files / path).parent.mkdir(exist_ok=True)
        (self.files / path).write_bytes(content)
        (self.files / path).chmod(0o644)
        os.utime(self.files / path, ns=(mtime_ns, mtime_ns))

    def know(self, path: str) -> None:
        """Have the row of a path say that it is placed."""
        entry = self.catalog.get(path.encode())
        assert entry is not None
        stat = os.lstat(self.files / path)
        self.state.put([KnownState.of(entry.path, stat, entry.digest, entry.version)])

    def take_snapshot(self) -> None:
        """As the log does: it keeps no entry before it."""
        index, path = self.catalog.applied_index, str(self.directory / f"snapshot-{len(self.log)}")
        self.machine().begin_dump()(path)
        self.snapshot, self.log = (path, index), []

    def lose_power(self) -> set[bytes]:
        """Start anew and settle; return what is wrong."""
        doubts = Doubts(self.tree, self.state, self.catalog, self.staging, self.synced)
        machine = self.machine(doubts)
        if self.snapshot:
            machine.recall_from(*self.snapshot)
        for index, command in self.log:
            machine.recall(index, command)
        return doubts.settle()

    def version(self, path: str) -> int | None:
        """The version that the row of `path` has, if the row is what is on the disk."""
        row, stat = self.state.get(path.encode()), self.tree.lstat(path.encode())
        return row.version if row is not None and stat is not None and row.matches(stat) else None

    def agreed(self, path: str) -> int:
        entry = self.catalog.get(path.encode())
        assert entry is not None
        return entry.version


def file(path: str, content: bytes, *, mtime_ns: int = MTIME, inline: bool = True) -> Put:
    return Put(
        path.encode(),
        Kind.FILE,
        len(content),
        0o644,
        mtime_ns,
        blake3(content).digest(),
        inline=content if inline else None,
        base=ANY_VERSION,
    )
