"""Where messages come in: refused unless from the member's own data directory, then sorted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pickbox.consensus.configuration import Configuration, InvalidConfiguration
from pickbox.consensus.library import Role
from pickbox.consensus.messages import (
    Append,
    AppendReply,
    Diverged,
    Introduction,
    MalformedMessage,
    Message,
    Removed,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Unrecognised,
    VoteReply,
    VoteRequest,
    WireMessage,
    from_wire,
)

if TYPE_CHECKING:
    from pickbox.consensus.core import SafeSyncObj

log = logging.getLogger(__name__)


class Receiving:
    """Sorts messages to the parts of a node, and keeps its term up with the others'."""

    def __init__(self, core: SafeSyncObj) -> None:
        self._core = core
        self._refused: dict[str, bytes] = {}

    def on_wire(self, sender: str, wire: WireMessage) -> None:
        """Take one message in."""
        core = self._core
        try:
            message, origin = from_wire(wire)
        except MalformedMessage as error:
            log.warning("message_refused", extra={"fields": {"peer": sender, "why": str(error)}})
            return
        if origin.cluster_id != core.identity.cluster_id:
            fields = {"peer": sender, "cluster": origin.cluster_id}
            log.warning("message_of_another_cluster", extra={"fields": fields})
            return
        if isinstance(message, Introduction):
            # Even of a data directory that is not recognised: it may be the news that it should be.
            self._on_introduction(sender, message)
            return
        if not core.links.recognises(sender, origin.incarnation):
            recorded = core.configuration.participants[sender].incarnation
            self._note_refused(sender, origin.incarnation)
            core.send_after_sync(sender, Unrecognised(core.term, recorded))
            return
        self._dispatch(sender, origin.incarnation, message)

    def _note_refused(self, sender: str, incarnation: bytes) -> None:
        """Once for each data directory: it goes on sending until somebody removes it."""
        if self._refused.get(sender) != incarnation:
            self._refused[sender] = incarnation
            log.warning("incarnation_refused", extra={"fields": {"peer": sender}})

    def _dispatch(self, sender: str, incarnation: bytes, message: Message) -> None:
        core = self._core
        match message:
            case Append():
                self._on_append(sender, message)
            case AppendReply() | SnapshotReply():
                self._on_reply(sender, incarnation, message)
            case VoteRequest():
                core.elections.on_request(sender, incarnation, message)
            case VoteReply():
                core.elections.on_reply(sender, incarnation, message)
            case SnapshotChunk():
                if self._heeds_leader(sender, message.term):
                    core.snapshot_receiver.on_chunk(sender, message)
            case TimeoutNow():
                core.elections.on_timeout_now(sender, message)
            case Removed():
                core.standing.on_removed(message)
            case Unrecognised():
                core.standing.on_unrecognised(sender)
            case Diverged():
                self._on_diverged(sender, message)

    def _on_diverged(self, sender: str, message: Diverged) -> None:
        core = self._core
        if message.term == core.term and sender == core.leader_id:
            core.diverged(message.index)

    def _on_introduction(self, sender: str, message: Introduction) -> None:
        try:
            members = Configuration.decode(message.configuration)
        except InvalidConfiguration as error:
            log.warning("message_refused", extra={"fields": {"peer": sender, "why": str(error)}})
            return
        if self._core.links.on_introduction(members):
            self._core.connect_members()

    def _on_append(self, sender: str, append: Append) -> None:
        if self._heeds_leader(sender, append.term):
            self._core.following.on_append(sender, append)

    def _heeds_leader(self, sender: str, term: int) -> bool:
        """Follow the leader of `term`; a deposed one learns of the term by an empty reply."""
        core = self._core
        if term < core.term:
            core.send_after_sync(sender, AppendReply(core.term, -1, -1, 0, 0, 0, b""))
            return False
        if term > core.term or core.role is not Role.FOLLOWER:
            core.elections.become_follower(term, sender)
        core.elections.heard_from_leader(sender)
        return True

    def _on_reply(
        self, sender: str, incarnation: bytes, reply: AppendReply | SnapshotReply
    ) -> None:
        """Take in an answer to this leadership; answers to an earlier one say nothing any more."""
        core = self._core
        if reply.term > core.term:
            core.elections.become_follower(reply.term, None)
        if not core.leads or reply.term != core.term or sender not in core.appending.peers:
            return
        if isinstance(reply, AppendReply):
            core.appending.on_reply(sender, incarnation, reply)
            if reply.state_index:
                core.divergence.report(sender, reply.state_index, reply.state_hash)
        else:
            core.appending.heard_round(sender, incarnation, reply.round)
            peer = core.appending.peers[sender]
            core.snapshot_sender.on_reply(sender, peer, reply, core.appending.round)
