"""The seams between the parts: what one part may ask of another.

Every part is written against these protocols and `pickbox.changes`; `pickbox.node` plugs the real
ones together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pickbox.changes import Change, Entry, Put, Receipt
    from pickbox.known import KnownState, Revision
    from pickbox.members import MemberChange, Members
    from pickbox.status import ClusterStatus, Health, HeldDeletes, NodeStatus, UpgradeStatus


class StateManager(Protocol):
    """Knows, durably, what each path on this node's disk was when it was last looked at."""

    def get(self, path: bytes) -> KnownState | None: ...

    def look_up(self, path: bytes) -> tuple[KnownState | None, Entry | None]:
        """The row of `path`, and what was announced of it, as they are at one moment."""

    def put(self, rows: Iterable[KnownState]) -> None:
        """Write the rows of what was placed."""

    def revise(self, revisions: Iterable[Revision]) -> list[bytes]:
        """Write or drop rows, but none that is later than `base` by now: return those paths."""

    def forget(self, rows: Iterable[KnownState]) -> None:
        """Drop `rows`, but none that is later by now."""

    def propose(self, request_id: str, revisions: Iterable[Revision]) -> None:
        """Note what the answers to proposals will complete, until they are `answered`."""

    def proposed(self) -> dict[str, list[Revision]]:
        """What was proposed and not answered, by request id, in the order of the submission."""

    def is_proposed(self, path: bytes, digest: bytes) -> bool:
        """Whether that content of `path` was proposed and is not answered."""

    def answered(self, request_id: str, revisions: Iterable[Revision]) -> list[bytes]:
        """`revise` as the answers say, and end the submission, all of it or nothing."""

    def announce(self, entries: Iterable[Entry]) -> None:
        """Note that `entries` are about to be placed, until their rows are written.

        What was announced of a path before is forgotten: it must not be on the disk.
        """

    def under(self, directory: bytes) -> Iterator[KnownState]:
        """Rows of `directory` and of everything in it, in path order; ``b""`` for all rows."""

    def with_digest(self, digest: bytes) -> list[KnownState]:
        """A few rows whose content had that digest."""

    def with_inode(self, inode: int) -> list[KnownState]: ...

    def count(self) -> int: ...


class CatalogReader(Protocol):
    """Reads what the cluster has agreed on, as far as this node has applied it."""

    def get(self, path: bytes) -> Entry | None: ...

    def under(self, directory: bytes) -> Iterator[Entry]:
        """The entry of `directory` and of everything in it, in path order; ``b""`` for all."""

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        """At most `limit` entries whose path starts with `prefix` and sorts after `after`."""

    @property
    def applied_index(self) -> int: ...

    @property
    def last_version(self) -> int:
        """The highest version that was ever given, as far as this node has applied it."""


class ChangeProposer(Protocol):
    """Turns changes into committed catalog entries."""

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        """Commit `changes` in one submission and return what became of each.

        Blocks until this node has applied them. Retries with the same request id until `timeout`
        seconds are over.

        Raises:
            LevelTooLow: not every member may understand them: the upgrade was not finished.
            NoLeader: no leader was there; nothing was changed.
            OutcomeUnknown: the deadline passed with the submission under way.
        """

    def stage(self, put: Put, *, timeout: float) -> Put:
        """Make the content of `put` durable on a majority; return it with its holders.

        Content must be readable here by its digest. Content that travels inline is returned as is.

        Raises:
            NotStaged: no majority confirmed in time.
        """

    def stage_all(self, puts: Sequence[Put], *, timeout: float) -> list[Put]:
        """`stage` for several at once; all of them, or `NotStaged`."""


class LeaderForwarder(Protocol):
    """Hands a command to the leader from a follower."""

    def forward(self, leader: str, command: bytes, timeout: float) -> list[Receipt]:
        """Have node `leader` propose `command`; raises `NoLeader` if it does not lead."""


class ContentSource(Protocol):
    """Gives content by its digest."""

    def open(self, digest: bytes, size: int) -> BinaryIO | None:
        """The content from its first byte, or None if it is not to be had here."""


class Placer(Protocol):
    """Makes the disk say what the catalog says."""

    def request(self, paths: Iterable[bytes]) -> None:
        """Have `paths` placed soon; idempotent, cheap, never blocks."""

    def has_in_hand(self, path: bytes) -> bool:
        """Whether `path` is being placed, or was and its row is not written yet."""


class DirtyPaths(Protocol):
    """Where others say that a path wants a look: `reconcile` will be called for it."""

    def mark(self, path: bytes, *, delay: float = 0.0) -> None:
        """Have `path` reconciled after `delay` seconds."""


@dataclass(frozen=True, slots=True)
class ConsensusStatus:
    """A consistent picture of the log on this node, taken on the tick thread.

    Attributes:
        role: ``leader``, ``follower`` or ``candidate``.
        leader: id of the leader this node knows, or None.
        lag: entries that the leader has committed and this node has not applied.
        match_index: on the leader, the highest entry known to be on each peer.
        connected: ids of the peers with a live connection.
        last_contact: seconds since this node last heard of a leader with a majority; 0 on one.
    """

    role: str
    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    lag: int
    has_quorum: bool
    match_index: dict[str, int]
    connected: tuple[str, ...]
    last_contact: float


@dataclass(frozen=True, slots=True)
class LogFigures:
    """What the log has counted since the node's start. `commits` are entries seen as committed."""

    leader_changes: int = 0
    elections: int = 0
    commits: int = 0
    bytes_on_disk: int = 0


class Consensus(Protocol):
    """A durable, ordered log of small commands."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        """Commit `command` as the leader; return what the state machine answered.

        Raises:
            NoLeader: this node does not lead; nothing was appended.
            OutcomeUnknown: not known to be committed in time.
        """

    def barrier(self, timeout: float) -> int:
        """As the leader: an index that covers all that was acknowledged before the call.

        Raises:
            NoLeader: this node does not lead, or no majority confirmed that it does.
        """

    def wait_applied(self, index: int, timeout: float) -> bool:
        """Wait until this node has applied `index`."""

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        """Hand over to `target` (or the best follower); return the new leader's id.

        Raises:
            NoLeader: this node does not lead, or nobody took over in time.
        """

    def members(self) -> Members: ...

    def change_members(
        self, change: MemberChange, node_id: str, *, address: str, version: int, timeout: float
    ) -> int:
        """As the leader: make one change to the members that `version` names; the new version.

        Raises:
            NoLeader: this node does not lead, or the change was not committed in time.
            ChangeTooEarly: it can be made later, or to another `version`: look and ask again.
            ChangeRefused: it cannot be made.
        """

    def status(self) -> ConsensusStatus: ...


class StateMachine(Protocol):
    """What the log drives. Called on the tick thread only, but for what `begin_dump` returns."""

    @property
    def applied_index(self) -> int:
        """Index of the last command that is durably applied; survives restarts."""

    def apply(self, index: int, command: bytes) -> list[Receipt]:
        """Apply one command. Deterministic; never raises for what a command says.

        Raises:
            OSError, MemoryError, sqlite3.Error: this node alone is in trouble (its disk refuses, or
                has damaged its catalog); nothing was applied, and the same command comes again.
            WrongRelease: a newer release understands it; nothing was applied, nor will be.
        """

    def recall_from(self, path: str, index: int) -> None:
        """After a restart: the last snapshot is at `path`, and has all commands up to `index`."""

    def recall(self, index: int, command: bytes) -> None:
        """After a restart: see a command since the last snapshot again, applied or not."""

    def state_hash(self) -> bytes:
        """A hash of all state, equal on nodes that applied the same commands."""

    def begin_dump(self) -> Callable[[str], None]:
        """Pin the state as it is now; what is returned writes it to a path, on any thread."""

    def load(self, path: str) -> None:
        """Replace all state by the copy at `path`, atomically."""


@dataclass(frozen=True, slots=True)
class Written:
    """A committed write: the path's version now (0 after a delete), and the log index it took.

    Attributes:
        digest: of the version's content; empty if it has none, or if the write was done before
            and its version is not the current one any more.
    """

    path: bytes
    version: int
    digest: bytes
    index: int
    created: bool
    request_id: str


class FileService(Protocol):
    """Files as an application sees them: what the HTTP API does, in terms of the domain.

    Paths are bytes as the client sent them and are validated here. Every method raises
    `pickbox.errors.PickboxError` subclasses only.
    """

    def entry(self, path: bytes, *, linearizable: bool = False) -> Entry:
        """The entry at `path`, from this node's catalog or after a barrier through the leader."""

    def open(self, entry: Entry) -> BinaryIO:
        """The content of `entry`, exactly that version; raises `ContentPending` if not here yet."""

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        """At most `limit` entries whose path starts with `prefix` and sorts after `after`."""

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
        """Store what `body` yields (exactly `length` bytes, if given) and commit it.

        Streams to staging; content is never held in memory. `base` as in `Put.base`. Without
        `mode`, a replaced file keeps its own and a new one gets 0644. Missing parents are made.
        """

    def make_directory(
        self, path: bytes, *, base: int, mode: int | None, request_id: str | None
    ) -> Written: ...

    def delete(
        self, path: bytes, *, base: int, recursive: bool, request_id: str | None
    ) -> Written: ...

    def move(
        self,
        path: bytes,
        destination: bytes,
        *,
        base: int,
        destination_base: int,
        request_id: str | None,
    ) -> Written: ...

    def receipt(self, request_id: str) -> Receipt:
        """What became of a request whose answer was lost; raises `NotFound` if never applied."""


class NodeControl(Protocol):
    """What operators and probes ask of a node."""

    def live(self) -> bool:
        """Whether the node's own threads still turn."""

    def health(self) -> Health: ...

    def status(self) -> NodeStatus: ...

    def cluster(self) -> ClusterStatus: ...

    def transfer_leadership(self, target: str | None) -> str:
        """Hand over leadership, from whichever node leads; return the new leader's id."""

    def drain(self) -> None:
        """Become not ready and hand over leadership; what is in flight is finished."""

    def undrain(self) -> None: ...

    def held_deletes(self) -> HeldDeletes: ...

    def approve_deletes(self) -> int:
        """Propose the held deletes after all; return how many."""

    def restore_deletes(self) -> int:
        """Put the missing files back on this node's disk; return how many."""

    def snapshot(self) -> int:
        """Compact the log into a snapshot; return the index it covers."""


class Membership(Protocol):
    """What operators do to the members, from whichever node they ask."""

    def members(self) -> Members: ...

    def add(self, node_id: str, address: str) -> Members:
        """Send the log to `node_id`, as a learner."""

    def promote(self, node_id: str) -> Members:
        """Count the learner `node_id`; raises `ChangeTooEarly` until it has caught up."""

    def remove(self, node_id: str, *, force: bool = False) -> Members:
        """Let `node_id` go; raises `ChangeTooEarly` until the rest has all content."""


class Upgrade(Protocol):
    """What operators ask of an upgrade, from whichever node they ask."""

    def status(self) -> UpgradeStatus:
        """What the cluster uses, and what every member understands."""

    def finish(self) -> UpgradeStatus:
        """Use all that every member understands; raises `UpgradeRefused` if one lacks something."""


class PeerService(Protocol):
    """What one node asks of another."""

    def propose(self, command: bytes, timeout: float) -> list[Receipt]: ...

    def barrier(self, timeout: float) -> int: ...

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        """As the leader: hand over; return the new leader's id."""

    def change_members(
        self, change: MemberChange, node_id: str, address: str, version: int, timeout: float
    ) -> int:
        """As the leader: make one change to the members that `version` names."""

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str, timeout: float) -> set[bytes]:
        """Fetch and fsync contents (digest, size) from node `source`; return the digests held."""

    def open_content(self, digest: bytes, size: int) -> BinaryIO | None: ...

    def sent(self, peer: str, count: int) -> None:
        """Count `count` content bytes that went to node `peer`."""
