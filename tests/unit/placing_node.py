"""A node whose placer and watcher take turns as a test says: in pieces, one between the other's.

Both are the real ones, over a real folder, state database and catalog; only their threads do not
run. The cluster is a file with its commands, so that it outlives a node that is killed.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watcher_node import SETTINGS, Node

from pickbox.changes import Delete, Kind, OnStale, Put, Submission
from pickbox.codec import encode_command
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.placement_steps import PlacementSteps
from pickbox.replication.placer import Placer
from pickbox.replication.state_machine import StateMachine
from pickbox.replication.swaps import Swaps
from pickbox.replication.transfer import Fetcher
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.staging import Staging
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pickbox.changes import Change, Receipt
    from pickbox.watcher import Watcher

MTIME = 1_600_000_000_123_456_789


class NoCounts:
    """PlacerMetrics and TransferMetrics."""

    def placed(self, kind: str, size: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...

    def transferred(self, direction: str, peer: str, count: int) -> None: ...


class LocalLog:
    """Implements ChangeProposer: a log that is a file, and what it drives."""

    def __init__(self, file: Path, machine: StateMachine) -> None:
        self.proposed: list[Change] = []
        self.before_the_answer: Callable[[], None] = lambda: None
        self._file = file
        self._machine = machine
        self._end = 0
        for line in file.read_text().split() if file.exists() else ():
            self._end += 1
            machine.apply(self._end, bytes.fromhex(line))

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        self.proposed += changes
        receipt = self.append(changes, "node1", request_id)
        self.before_the_answer()
        return receipt

    def append(
        self, changes: Sequence[Change], origin: str, request_id: str | None = None
    ) -> Receipt:
        """Commit `changes`, and have them applied."""
        self._end += 1
        submission = Submission(request_id or f"id-{self._end}", origin, 0, tuple(changes))
        command = encode_command([submission])
        with self._file.open("a") as log:
            log.write(f"{command.hex()}\n")
        return self._machine.apply(self._end, command)[0]


class Watched:
    """Stands for `target`, and has `before_call` called before each of its methods."""

    def __init__(self, target: object, before_call: Callable[[], None]) -> None:
        self._target = target
        self._before_call = before_call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before_call()
            return found(*args, **kwargs)

        return call


@dataclass
class PlacingNode(Node):
    """One run of a node over a directory, from its start until it is closed or killed."""

    calls: int = 0
    """How often the watcher has asked something of folder, rows, catalog or placer."""
    interrupt: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What is done before the watcher's call of that number."""

    def _new_watcher(self) -> Watcher:
        base = os.fsencode(self.data)
        staging, disk = Staging(base + b"/staging"), DiskGuard(base, 0)
        self.catalog = Catalog(str(self.data / "catalog.db"))
        staging.recover(self.catalog.has_content)
        inline = InlineContent(staging)
        versions = Versions(base + b"/versions", self.state, 3600.0)
        content = LocalContent(
            self.tree, inline, staging, self.state, versions, lambda digest: None, "node1"
        )
        self.placer: Any = Placer(  # the real one
            PlacementSteps(
                self.tree,
                inline,
                staging,
                self.state,
                versions,
                self.catalog,
                content,
                disk,
                Swaps(self.tree, "node1", SETTINGS.settle_limit),
            ),
            self.catalog,
            Fetcher({}, staging, content, disk, NoCounts()),
            sources=lambda entry: (),
            blocked=lambda: "",
            metrics=NoCounts(),
        )
        machine = StateMachine(
            self.catalog,
            inline,
            in_folder=content.is_in_folder,
            on_applied=lambda index, touched, submissions: self.placer.request(touched),
            on_loaded=lambda: None,
            before_snapshot=lambda: None,
            on_recalled=lambda index, submissions: None,
        )
        self.log = LocalLog(self.data / "log", machine)
        self.placer._dirty = watcher = self._watcher_with_interrupts()
        return watcher

    def _watcher_with_interrupts(self) -> Watcher:
        real = self.tree, self.state, self.placer
        self.cluster: Any = _Cluster(Watched(self.catalog, self._called), self.log)
        self.tree, self.state, self.placer = (Watched(part, self._called) for part in real)  # type: ignore[assignment]
        try:
            return super()._new_watcher()
        finally:
            self.tree, self.state, self.placer = real

    def _called(self) -> None:
        self.calls += 1
        act = self.interrupt.pop(self.calls, None)
        if act is not None:
            act()

    # What others do.

    def agree(self, path: bytes, content: bytes | None, mode: int = 0o640) -> None:
        """The cluster agrees that `content` is at `path`; None is a directory."""
        if content is None:
            put = Put(path, Kind.DIRECTORY, 0, mode, 0, b"", on_stale=OnStale.REFUSE)
        else:
            digest, size = digest_bytes(content), len(content)
            put = Put(
                path,
                Kind.FILE,
                size,
                mode,
                MTIME + size,
                digest,
                inline=content,
                on_stale=OnStale.REFUSE,
            )
        self.log.append([put], "node2")

    def agree_on_nothing(self, path: bytes) -> None:
        """The cluster agrees that nothing is at `path`."""
        self.log.append([Delete(path, on_stale=OnStale.REFUSE)], "node2")

    # What this node does.

    def placing(self) -> Iterator[None]:
        """Place what is due; a piece at a time."""
        placer = self.placer
        if not placer.queued:
            return
        placer.request(list(placer._due))  # now, also what was to wait
        batch = placer._take()
        placer._announce(batch)
        yield
        for path in placer._in_order(batch):
            placer._place(path)
            yield
        placer._flush(batch)
        placer._steps.let_go_of_all()
        yield

    def look(self, path: bytes) -> None:
        """Have the watcher look at `path`, where an event was seen."""
        self.watcher._dirty.mark(path, explained=True)
        self.watcher._rounds.run()

    def settle(self, *, watcher_first: bool = False) -> None:
        """Let placer and watcher take turns until neither has anything to do."""
        dirty = self.watcher._dirty
        for turn in itertools.count(watcher_first):
            if turn % 2:
                for path in list(dirty._items):
                    dirty.mark(path)  # now, also what was to wait
                self.watcher._rounds.run()
            else:
                exhaust(self.placing())
            if not self.placer.queued and not len(dirty):
                return
            assert turn < 50, "placer and watcher never come to an end"

    def scan(self) -> None:
        """The scan that a watcher begins with."""
        self.watcher._scanner.scan()

    def close(self) -> None:
        self.state.close()
        self.catalog.close()
        self.tree.close()


class _Cluster:
    """What the watcher is given for the cluster: catalog and log."""

    def __init__(self, catalog: Watched, log: LocalLog) -> None:
        self._catalog = catalog
        self.propose = log.propose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)


def exhaust(pieces: Iterator[None]) -> None:
    """Do all that is left."""
    for _ in pieces:
        pass
