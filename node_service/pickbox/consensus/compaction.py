"""Snapshots of this node's own state machine, which let the log be cut."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.consensus.snapshot_store import Snapshot, SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.applying import Machine
    from pickbox.consensus.configuration import ConfigurationHistory
    from pickbox.consensus.library import RaftLog
    from pickbox.consensus.options import Options

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 10.0
"""After a failure: a full disk is not written to in every tick."""


class CompactingCore(Protocol):
    """What this needs of the core."""

    history: ConfigurationHistory

    @property
    def raft_log(self) -> RaftLog: ...
    @property
    def applied_index(self) -> int: ...
    def term_at(self, index: int) -> int | None: ...
    def now(self) -> float: ...
    def wake(self) -> None: ...


class Compaction:
    """Has the state machine write itself down, aside from the tick, when the log has grown.

    Args:
        tell: called with the index of each snapshot that is durable.
    """

    def __init__(
        self,
        core: CompactingCore,
        machine: Machine,
        store: SnapshotStore,
        options: Options,
        tell: Callable[[int], None],
    ) -> None:
        self._core = core
        self._machine = machine
        self._store = store
        self._options = options
        self._tell = tell
        self._wanted = False
        self._busy = False
        self._owed = False
        self._retry_at = float("-inf")
        self._path = store.scratch_path("made")
        self._made: Snapshot | Exception | None = None

    def request(self) -> None:
        """Make a snapshot in the next tick, however little the log has grown."""
        self._wanted = True

    def tick(self) -> None:
        """Install what was made; begin anew if it is time."""
        if self._made is not None:
            self._finish()
        if self._busy:
            return
        grown = self._core.applied_index - self._store.covered
        wanted, self._wanted = self._wanted, False
        due = grown >= self._options.snapshot_every or self._owed
        if grown and (wanted or (due and self._core.now() >= self._retry_at)):
            self._start()

    def _start(self) -> None:
        index = self._core.applied_index
        term = self._core.term_at(index)
        if term is None:
            return
        self._busy = True
        try:
            write = self._machine.begin_dump()
        except self._options.refusals as error:
            self._made = error
            self._core.wake()
            return
        machine_index, members = self._machine.applied_index, self._core.history.at(index)

        def make() -> None:
            try:
                self._store.discard(self._path)
                write(self._path)
                self._made = self._store.describe(self._path, index, term, machine_index, members)
            except Exception as error:
                self._made = error
            self._core.wake()

        self._options.aside(make)

    def _finish(self) -> None:
        made, self._made, self._busy = self._made, None, False
        if not isinstance(made, Snapshot):
            self._failed(made)
        elif self._store.covered < made.index:  # else a newer one came from the leader
            try:
                self._store.install(self._path, made)
            except OSError as error:
                self._failed(error)
                return
            self._store.drop_older()
            log.info("snapshot_made", extra={"fields": {"index": made.index, "bytes": made.size}})
            self.compact_to(made)

    def _failed(self, error: Exception | None) -> None:
        """The log stays as it is, and the last snapshot the newest, for a while."""
        self._owed = True
        self._retry_at = self._core.now() + _RETRY_SECONDS
        log.error("snapshot_failed", extra={"fields": {"why": str(error)}})

    def compact_to(self, snapshot: Snapshot) -> None:
        """Let go of entries that `snapshot` covers, but the last few, for peers that lag."""
        self._owed = False
        core = self._core
        if core.term_at(snapshot.index) == snapshot.term:
            keep = self._options.keep_trailing
            core.raft_log.compact_to(snapshot.index, snapshot.term, keep_trailing=keep)
        core.history.compact_to(snapshot.index)
        self._tell(snapshot.index)
