"""pysyncobj's node with its private state under typed names, and nothing of it left to chance.

This is the only module of the core that touches the library. Methods and attributes named
``_SyncObj__…`` are the library's private ones; `reviewed` checks that they are what was read.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from pysyncobj import SyncObj, SyncObjConf, SyncObjException
from pysyncobj import syncobj as library
from pysyncobj.node import Node

from pickbox.consensus.messages import Message, Origin, to_wire
from pickbox.failpoints import failpoint
from pickbox.waker import Waker

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from pickbox.consensus.timing import Timing

log = logging.getLogger(__name__)

LogEntry: TypeAlias = tuple[bytes, int, int]
"""Command, index, term: the library's own shape of an entry."""

REGULAR: Final = b"\x00"
NO_OP: Final = b"\x01"
MEMBERSHIP: Final = b"\x02"
"""First byte of a command, as the library numbers the kinds. It has no other here."""


class CannotListen(OSError):
    """The transport has not got its port; the text is the system's."""


class Role(enum.IntEnum):
    """What a node is, as the library numbers it."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2


class HardState(Protocol):
    """What a node must never forget: its term, and whom it voted for in it."""

    @property
    def term(self) -> int: ...
    @property
    def voted_for(self) -> str | None: ...


class RaftLog(Protocol):
    """What the core needs of a log. Positions count from `first_index`.

    Nothing is durable before `sync`, which raises if it cannot make it so; the log then refuses
    everything. `compacted` is the index and term up to which a snapshot holds everything, (0, 0) at
    first; an empty log goes on after it. `compact_to` empties a log that has another entry there.
    """

    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def synced_index(self) -> int: ...
    @property
    def compacted(self) -> tuple[int, int]: ...
    @property
    def hard_state(self) -> HardState: ...
    @property
    def dirty(self) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, position: Any) -> Any: ...
    def term_at(self, index: int) -> int: ...
    def add(self, command: bytes, index: int, term: int) -> None: ...
    def truncate_from(self, index: int) -> None: ...
    def compact_to(self, index: int, term: int, *, keep_trailing: int) -> None: ...
    def set_hard_state(self, term: int, voted_for: str | None) -> None: ...
    def getRaftCommitIndex(self) -> int: ...  # noqa: N802 - the library's name
    def setRaftCommitIndex(self, index: int) -> None: ...  # noqa: N802 - the library's name
    def sync(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """This node: its id, its data directory's random tag, its cluster."""

    node_id: str
    incarnation: bytes
    cluster_id: str

    @property
    def origin(self) -> Origin:
        """How its messages are signed."""
        return Origin(self.incarnation, self.cluster_id)


def ballot(node_id: str, incarnation: bytes) -> str:
    """How a vote names its candidate: a wiped node is another candidate than it was."""
    return f"{node_id}/{incarnation.hex()}"


def _settings(timing: Timing) -> SyncObjConf:
    """The library's settings, such that nothing of it acts by itself."""
    return SyncObjConf(
        autoTick=False,
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        appendEntriesUseBatch=True,  # no pipe of its own: see `wake`
        appendEntriesPeriod=timing.heartbeat,
        raftMinTimeout=max(timing.election_min, 3.01 * timing.heartbeat),
        raftMaxTimeout=timing.election_max,
        leaderFallbackTimeout=timing.step_down,
        connectionTimeout=max(4 * timing.election_max, 2.0),
    )


class _Journal:
    """What the library's constructor and destructor ask of a journal, and no more."""

    def __init__(self, log: RaftLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return 1  # else the library would write an entry of its own

    def __getitem__(self, _: int) -> LogEntry:
        return b"", 0, 0

    def getCurrentTerm(self) -> int:  # noqa: N802 - the library's name
        return self._log.hard_state.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802 - the library's name
        return self._log.hard_state.voted_for

    def getRaftCommitIndex(self) -> int:  # noqa: N802 - the library's name
        return self._log.getRaftCommitIndex()

    def _destroy(self) -> None:
        self._log.close()


class LibraryNode(SyncObj):  # type: ignore[misc]  # the library has no types
    """The library's node without its behaviour: state, transport, poller and clock.

    Args:
        log: stands in for the library's journal.
        transport_class: called with this node, its own `Node` and the peers, as the library does.
        rng: the only source of chance.

    Raises:
        CannotListen: the transport has not got its port.
    """

    def __init__(
        self,
        identity: Identity,
        raft_log: RaftLog,
        transport_class: Callable[..., Any],
        timing: Timing,
        rng: random.Random,
    ) -> None:
        self.identity = identity
        self.timing = timing
        self.rng = rng
        self._given_log = raft_log
        self._held: list[tuple[str, Message]] = []
        self._places: dict[str, tuple[str, ...]] = {}
        self._nodes: dict[str, Node] = {}
        self._linked: set[str] = set()
        self._waker = Waker()
        try:
            super().__init__(
                Node(identity.node_id),
                [],
                _settings(timing),
                nodeClass=Node,
                transportClass=transport_class,
            )
        except SyncObjException as error:  # it says "BindError", and the transport knows more
            raise CannotListen(str(error.__context__ or error)) from error
        self._poller.subscribe(self._waker.fileno(), self._woken, 1)
        state = raft_log.hard_state
        self._SyncObj__raftCurrentTerm = max(state.term, self.last_term)
        self._SyncObj__votedForNodeId = state.voted_for if state.term == self.term else None

    # -- the log, in the place of the library's journal ----------------------------------------

    @property
    def _SyncObj__raftLog(self) -> _Journal:  # noqa: N802 - the library's name
        return _Journal(self._given_log)

    @_SyncObj__raftLog.setter
    def _SyncObj__raftLog(self, _: object) -> None:  # noqa: N802 - the library's name
        """Ignore the journal that the library makes."""

    @property
    def raft_log(self) -> RaftLog:
        return self._given_log

    @property
    def first_index(self) -> int:
        """Index of the oldest entry that is still in the log."""
        return self._given_log.first_index

    @property
    def last_index(self) -> int:
        return self._given_log.last_index

    @property
    def last_term(self) -> int:
        return self.term_at(self.last_index) or 0

    def term_at(self, index: int) -> int | None:
        """Term of entry `index`; None if it is not in the log, nor the last before it."""
        raft_log = self._given_log
        if len(raft_log) and raft_log.first_index <= index <= raft_log.last_index:
            return raft_log.term_at(index)
        compacted, term = raft_log.compacted
        return term if index == compacted else None

    def entries(self, first: int, count: int) -> list[LogEntry]:
        """At most `count` entries from index `first` on, which must be in the log."""
        position = first - self._given_log.first_index
        found: list[LogEntry] = self._given_log[position : position + count]
        return found

    # -- state ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the library's clock, which a simulation replaces."""
        seconds: float = library.monotonicTime()
        return seconds

    @property
    def node_id(self) -> str:
        return self.identity.node_id

    @property
    def term(self) -> int:
        term: int = self._SyncObj__raftCurrentTerm
        return term

    @property
    def voted_for(self) -> str | None:
        """The ballot that this node cast in its term."""
        cast: str | None = self._SyncObj__votedForNodeId
        return cast

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        """Durable with the next `sync`, before which nothing that follows from it is said."""
        self._SyncObj__raftCurrentTerm = term
        self._SyncObj__votedForNodeId = voted_for
        self._given_log.set_hard_state(term, voted_for)

    @property
    def role(self) -> Role:
        return Role(self._SyncObj__raftState)

    @role.setter
    def role(self, role: Role) -> None:
        self._SyncObj__raftState = int(role)

    @property
    def leads(self) -> bool:
        """Whether this node believes to be the leader; a majority may know better."""
        return bool(self._SyncObj__raftState == Role.LEADER)

    @property
    def leader_id(self) -> str | None:
        """Id of the leader of this term, if it was heard of."""
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @leader_id.setter
    def leader_id(self, node_id: str | None) -> None:
        self._SyncObj__raftLeader = None if node_id is None else self._node(node_id)

    @property
    def commit_index(self) -> int:
        index: int = self._SyncObj__raftCommitIndex
        return index

    @commit_index.setter
    def commit_index(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index
        self._given_log.setRaftCommitIndex(index)

    @property
    def applied_index(self) -> int:
        index: int = self._SyncObj__raftLastApplied
        return index

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    # -- peers ---------------------------------------------------------------------------------

    @property
    def transport(self) -> Any:
        """What `transport_class` made."""
        return self._SyncObj__transport

    @property
    def connected_ids(self) -> set[str]:
        """Ids of the peers with a live connection."""
        return set(self._linked)

    def is_connected(self, node_id: str) -> bool:
        return node_id in self._linked

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """Where the peers are looked for, by id."""
        return dict(self._places)

    def set_peers(self, places: Mapping[str, tuple[str, ...]]) -> None:
        """Have the transport keep links to just these nodes: id -> addresses, likeliest first."""
        wanted = {n: p for n, p in places.items() if n != self.node_id}
        for node_id in [n for n in self._places if self._places[n] != wanted.get(n)]:
            del self._places[node_id], self._nodes[node_id]
            self._SyncObj__otherNodes.discard(Node(node_id))
            self._SyncObj__transport.dropNode(Node(node_id))
        for node_id, found_at in wanted.items():
            if node_id not in self._places:
                self._places[node_id] = found_at
                self._nodes[node_id] = Node(node_id, places=found_at)
                self._SyncObj__otherNodes.add(self._node(node_id))
                self._SyncObj__transport.addNode(self._node(node_id))

    def send(self, node_id: str, message: Message) -> bool:
        """Hand `message` to the transport now."""
        wire = to_wire(message, self.identity.origin)
        return bool(self._SyncObj__transport.send(self._node(node_id), wire))

    def send_after_sync(self, node_id: str, message: Message) -> None:
        """Send `message`, which is a promise, once the log is durable: in this tick or the next."""
        self._held.append((node_id, message))

    def release_held(self) -> None:
        """Send what waited for the log; only to be called when the log is durable."""
        held, self._held = self._held, []
        for node_id, message in held:
            failpoint("ack_before_send")
            self.send(node_id, message)

    @property
    def holds_messages(self) -> bool:
        return bool(self._held)

    def _node(self, node_id: str) -> Node:
        return self._nodes.get(node_id) or Node(node_id, places=())

    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802 - the library's name
        self._linked.add(str(node.id))

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802 - the library's name
        self._linked.discard(str(node.id))

    # -- waiting -------------------------------------------------------------------------------

    def wake(self) -> None:
        """End the tick's wait at once. For any thread; never blocks and never fails."""
        self._waker.wake()

    def wait(self, seconds: float) -> None:
        """Wait for a message or `wake`, and have the transport hand over what has come."""
        self._poller.poll(max(0.0, seconds))

    def _woken(self, _: int, __: int) -> None:
        self._waker.clear()  # who wakes before this is served by this very turn

    def close(self) -> None:
        """Close transport, log and what this class opened."""
        self._doDestroy()
        self._poller.unsubscribe(self._waker.fileno())
        self._waker.close()

    # -- what the library offers and this node does not do ---------------------------------------

    def _not_offered(self, *_: object, **__: object) -> None:
        raise NotImplementedError("the library's own version of this is not safe: see the core")

    addNodeToCluster = _not_offered  # noqa: N815 - the library's names
    removeNodeFromCluster = _not_offered  # noqa: N815
    setCodeVersion = _not_offered  # noqa: N815
    transferLeadership = _not_offered  # noqa: N815
    forceLogCompaction = _not_offered  # noqa: N815
    isReady = _not_offered  # noqa: N815
    getStatus = _not_offered  # noqa: N815
    printStatus = _not_offered  # noqa: N815
    getCodeVersion = _not_offered  # noqa: N815
    addOnTickCallback = _not_offered  # noqa: N815
    removeOnTickCallback = _not_offered  # noqa: N815
    destroy = _not_offered
    destroy_synchronous = _not_offered
    hasQuorum = None  # noqa: N815 - the constructor reads all properties, so this one cannot raise
    _applyCommand = _not_offered  # noqa: N815
    _SyncObj__onReadonlyNodeConnected = _not_offered
    _SyncObj__onReadonlyNodeDisconnected = _not_offered
    _SyncObj__doApplyCommand = _not_offered
    _SyncObj__loadDumpFile = _not_offered
    _SyncObj__sendAppendEntries = _not_offered
    _SyncObj__parseChangeClusterRequest = _not_offered

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802 - the library's name
        return self.rng.uniform(self.timing.election_min, self.timing.election_max)
