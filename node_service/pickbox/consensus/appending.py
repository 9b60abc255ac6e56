"""The leader's side of the log: appends on their way to each peer, and what commits.

Appends are sent optimistically, one batch a tick and peer, without waiting for the answer to the
last (Ongaro's thesis, 10.2.1). What a peer is known to hold only ever grows within a term.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from pickbox.consensus.messages import Append, AppendReply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.library import LibraryNode

_MOST_ENTRIES: Final = 4096
_READ_ENTRIES: Final = 8
"""Entries are read in steps of so many: large ones may have to come from the disk."""
_WINDOW_ENTRIES: Final = 32_768
_WINDOW_BYTES: Final = 16 << 20
_ROUNDS_KEPT: Final = 256

Batch: TypeAlias = "tuple[list[list[Any]], int]"
"""Entries as an append has them, and how many bytes their commands are."""

_NO_ENTRIES: Final[Batch] = ([], 0)
_ANNOUNCE_AFTER: Final = 0.001
"""Seconds after which peers hear of a commit, if no new entries have told them until then."""


@dataclass(slots=True)
class Peer:
    """What the leader knows of one peer.

    Attributes:
        next_index: the next entry to send.
        match_index: the peer holds the leader's log up to here, durably.
        probing: where the logs agree is not known: one append at a time until one is accepted.
        paused: the probe is on its way.
        clogged: the transport took no more; the next heartbeat tries again.
        round: the last heartbeat round that the peer has answered.
        in_flight: last index and bytes of each append that is not answered.
        told_commit: the commit index in the last append that was sent.
        incarnation: the data directory that the answers come from.
    """

    next_index: int
    match_index: int = 0
    probing: bool = True
    paused: bool = False
    clogged: bool = False
    round: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    told_commit: int = 0
    incarnation: bytes = b""

    def sent(self, last_index: int, size: int) -> None:
        """Entries up to `last_index` are on their way."""
        if self.probing:
            self.paused = True
            return
        self.next_index = last_index + 1
        self.in_flight.append((last_index, size))
        self.in_flight_bytes += size

    def accepted(self, match_index: int) -> None:
        """The peer says that it holds everything up to `match_index`."""
        self.match_index = max(self.match_index, match_index)
        if self.probing and match_index + 1 >= self.next_index:
            self.probing = self.paused = False
        self.next_index = max(self.next_index, self.match_index + 1)
        while self.in_flight and self.in_flight[0][0] <= self.match_index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]

    def rejected(self, rejected_index: int, hint_index: int) -> None:
        """The peer's log does not agree after `rejected_index`; it may at `hint_index`."""
        if self.probing:
            if rejected_index != self.next_index - 1:
                return  # an answer to an older probe
        elif rejected_index <= self.match_index:
            return  # an answer from before the peer caught up
        self.probe_from(max(self.match_index, min(rejected_index - 1, hint_index)) + 1)

    def probe_from(self, next_index: int) -> None:
        """Forget what is on its way and find out again where the logs agree."""
        self.probing, self.paused = True, False
        self.next_index = next_index
        self.in_flight.clear()
        self.in_flight_bytes = 0

    @property
    def may_send(self) -> bool:
        """Whether more entries may be put on their way."""
        if self.clogged:
            return False
        if self.probing:
            return not self.paused
        return (
            self.in_flight_bytes < _WINDOW_BYTES
            and self.next_index - self.match_index <= _WINDOW_ENTRIES
        )


class SnapshotSending(Protocol):
    """Brings a peer that needs entries which are gone up to the last snapshot."""

    def serve(self, peer_id: str, peer: Peer, round_: int) -> None: ...

    def forget(self, peer_id: str) -> None: ...


class Appending:
    """Peers' progress, heartbeats, and the commit index, on the leader.

    Args:
        batch_bytes: an append holds this much at most, or one entry.
    """

    def __init__(self, node: LibraryNode, snapshots: SnapshotSending, batch_bytes: int) -> None:
        self._node = node
        self._snapshots = snapshots
        self._batch_bytes = batch_bytes
        self.peers: dict[str, Peer] = {}
        self.round = 0
        self._round_started: deque[tuple[int, float]] = deque(maxlen=_ROUNDS_KEPT)
        self._elected_at = 0.0
        self._next_heartbeat = 0.0
        self._announced = 0
        self._announce_at = math.inf
        self._batch_of = (0, 0)
        self._last_batch: Batch = _NO_ENTRIES

    # -- leadership ------------------------------------------------------------------------------

    def begin(self, configuration: Configuration) -> None:
        """This node was just elected: nothing is known of anybody."""
        self.peers = {}
        self._elected_at = self._node.now()
        self._round_started.clear()
        self._next_heartbeat = 0.0
        self._announced, self._announce_at = 0, math.inf
        self._batch_of = (0, 0)
        self.reconfigure(configuration)

    def reconfigure(self, configuration: Configuration) -> None:
        """Follow who takes part."""
        wanted = configuration.participants.keys() - {self._node.node_id}
        for node_id in self.peers.keys() - wanted:
            self.drop(node_id)
        for node_id in sorted(wanted - self.peers.keys()):
            self.peers[node_id] = Peer(self._node.last_index + 1)

    def drop(self, node_id: str) -> None:
        self.peers.pop(node_id, None)
        self._snapshots.forget(node_id)

    def link_changed(self, node_id: str) -> None:
        """What was on its way to this peer is lost, or a new link wants a first word."""
        peer = self.peers.get(node_id)
        if peer is not None:
            peer.probe_from(
                max(peer.match_index + 1, min(peer.next_index, self._node.last_index + 1))
            )
            self._snapshots.forget(node_id)

    # -- sending ---------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float:
        """When there is something to send at the latest."""
        return min(self._next_heartbeat, self._announce_at)

    def start_round(self) -> int:
        """Begin a heartbeat round at once; answers to it say that this node still led after now."""
        now = self._node.now()
        self.round += 1
        self._round_started.append((self.round, now))
        self._next_heartbeat = now + self._node.timing.heartbeat
        for peer_id, peer in self.peers.items():
            peer.clogged = False
            if self._node.is_connected(peer_id):
                self._send(peer_id, peer)
        return self.round

    def send(self) -> None:
        """Send what is new to each peer that can take it; a heartbeat when one is due."""
        if self._node.now() >= self._next_heartbeat:
            self.start_round()
            return
        for peer_id, peer in self.peers.items():
            if not self._node.is_connected(peer_id):
                continue
            new = peer.next_index <= self._node.last_index and peer.may_send
            if new or (peer.probing and peer.may_send):
                self._send(peer_id, peer)

    def announce_commit(self) -> None:
        """Tell those who know nothing newer what is committed, without waiting for a heartbeat.

        While there is load, the next entries do it a moment later: a message of its own, and its
        answer, would be half of all.
        """
        now = self._node.now()
        if self._announced < self._node.commit_index:
            self._announced = self._node.commit_index
            self._announce_at = now + _ANNOUNCE_AFTER
        if now < self._announce_at:
            return
        self._announce_at = math.inf
        for peer_id, peer in self.peers.items():
            behind = peer.told_commit < self._node.commit_index
            if behind and not peer.probing and self._node.is_connected(peer_id):
                self._send(peer_id, peer)

    def _send(self, peer_id: str, peer: Peer) -> None:
        node = self._node
        previous = peer.next_index - 1
        previous_term = node.term_at(previous)
        if previous_term is None:
            self._snapshots.serve(peer_id, peer, self.round)
            return
        entries, size = self._batch(peer.next_index) if peer.may_send else _NO_ENTRIES
        message = Append(node.term, previous, previous_term, entries, node.commit_index, self.round)
        if not node.send(peer_id, message):
            peer.clogged = True
            return
        peer.told_commit = node.commit_index
        if entries or peer.probing:
            peer.sent(previous + len(entries), size)

    def _batch(self, first: int) -> Batch:
        """Entries from `first` on. Peers that are equally far get the same list."""
        wanted = (first, self._node.last_index)
        if wanted != self._batch_of:
            self._last_batch, self._batch_of = self._read_batch(*wanted), wanted
        return self._last_batch

    def _read_batch(self, first: int, last: int) -> Batch:
        entries: list[list[Any]] = []
        size = 0
        while first + len(entries) <= last and len(entries) < _MOST_ENTRIES:
            for command, _, term in self._node.entries(first + len(entries), _READ_ENTRIES):
                if entries and size + len(command) > self._batch_bytes:
                    return entries, size
                entries.append([term, command])
                size += len(command)
        return entries, size

    # -- hearing ---------------------------------------------------------------------------------

    def on_reply(self, sender: str, incarnation: bytes, reply: AppendReply) -> None:
        """Take in what a peer holds. The caller has seen to it that the reply is of this term."""
        peer = self.peers.get(sender)
        if peer is None or reply.match_index > self._node.last_index:
            return
        self.heard_round(sender, incarnation, reply.round)
        if reply.match_index >= 0:
            peer.accepted(reply.match_index)
        if reply.rejected_index >= 0:
            peer.rejected(reply.rejected_index, reply.hint_index)

    def heard_round(self, sender: str, incarnation: bytes, round_: int) -> None:
        """The peer has heard round `round_`; from another data directory it starts anew."""
        peer = self.peers[sender]
        if peer.incarnation not in (b"", incarnation):
            self.peers[sender] = peer = Peer(peer.next_index)
        peer.incarnation = incarnation
        if peer.round < round_ <= self.round:
            peer.round = round_

    def round_of_majority(self, configuration: Configuration) -> int:
        """The last round that a majority of the voters, with this node, has answered."""
        return self._reached_by_majority(
            configuration, self.round, {n: p.round for n, p in self.peers.items()}
        )

    def majority_heard_at(self, configuration: Configuration) -> float:
        """When the last round began that a majority has answered."""
        return self._round_began(self.round_of_majority(configuration))

    def has_heard_lately(self, peer_id: str) -> bool:
        """Whether the peer answers: a heartbeat of the last election timeout was."""
        peer = self.peers.get(peer_id)
        if peer is None or not peer.round:
            return False
        return self._node.now() - self._round_began(peer.round) < self._node.timing.election_min

    def _round_began(self, reached: int) -> float:
        """When the last round up to `reached` began."""
        for number, at in reversed(self._round_started):  # the one looked for is among the last
            if number <= reached:
                return at
        return self._elected_at

    def committable(self, configuration: Configuration) -> int:
        """The highest entry of this term that a majority holds durably; 0 if there is none."""
        index = self._reached_by_majority(
            configuration,
            self._node.raft_log.synced_index,
            {n: p.match_index for n, p in self.peers.items()},
        )
        # An entry of an earlier term is committed only by one of this term (Raft, 5.4.2).
        return index if self._node.term_at(index) == self._node.term else 0

    def _reached_by_majority(
        self, configuration: Configuration, own: int, others: dict[str, int]
    ) -> int:
        reached: Iterable[int] = (
            own if voter == self._node.node_id else self._counted(voter, configuration, others)
            for voter in configuration.voters
        )
        return sorted(reached, reverse=True)[configuration.majority - 1]

    def _counted(self, voter: str, configuration: Configuration, others: dict[str, int]) -> int:
        """What `voter` counts for: nothing, unless its data directory is the recorded one."""
        peer = self.peers.get(voter)
        if peer is None or configuration.voters[voter].incarnation != peer.incarnation:
            return 0
        return others[voter]
