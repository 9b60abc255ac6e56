"""Who leads: pre-vote, stickiness, votes counted by node, step-down, and handing over.

Raft (Ongaro, Ousterhout 2014), sections 5.2 and 5.4; Ongaro's thesis, 3.10, 4.2.3 and 9.6.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from pickbox.consensus.library import LibraryNode, Role, ballot
from pickbox.consensus.messages import Removed, TimeoutNow, VoteReply, VoteRequest

if TYPE_CHECKING:
    from pickbox.consensus.configuration import Configuration

log = logging.getLogger(__name__)


class Electorate(Protocol):
    """What elections need to know of the rest of the core."""

    @property
    def configuration(self) -> Configuration: ...

    @property
    def committed_configuration(self) -> Configuration: ...

    @property
    def may_lead(self) -> bool:
        """Whether this node's state machine and standing let it lead."""

    def majority_heard_at(self) -> float:
        """As the leader: when the oldest round began that a majority has answered."""

    def on_elected(self) -> None: ...

    def on_follower(self, was: Role) -> None: ...


class Elections:
    """The part of a node that asks for votes, gives them and counts them."""

    def __init__(self, node: LibraryNode, electorate: Electorate) -> None:
        self._node = node
        self._electorate = electorate
        self._votes: set[str] = set()
        self._trial = False
        self._heard_at = float("-inf")
        self._deadline = 0.0
        self._last_tick: float | None = None
        self._was_stalled = False
        self.incarnations_seen: dict[str, bytes] = {}
        self.held = 0
        """How many elections this node has called, trials not counted."""

    def tick(self) -> None:
        """Step down as a leader without a majority; ask for votes when the leader is silent."""
        node, now = self._node, self._node.now()
        self._bear_with_own_stall(now)
        if node.leads:
            if now > self._deadline and self._has_lost_majority(now):
                log.warning("leader_lost_majority", extra={"fields": {"term": node.term}})
                self.become_follower(node.term, None)
        elif now >= self._deadline:
            self._restart_clock()
            if self._is_voter() and self._electorate.may_lead:
                self._campaign(trial=True)

    def _has_lost_majority(self, now: float) -> bool:
        """As the leader: look again at who was heard, and when to look next."""
        self._deadline = self._electorate.majority_heard_at() + self._node.timing.step_down
        return now > self._deadline

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do at the latest."""
        return self._deadline

    @property
    def silence(self) -> float:
        """Seconds since a leader was heard; infinite if none ever was."""
        return self._node.now() - self._heard_at

    def heard_from_leader(self, leader: str) -> None:
        """A message of this term's leader came."""
        self._heard_at = self._node.now()
        self._node.leader_id = leader
        self._restart_clock()

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow `leader`, or nobody yet, in `term`."""
        node, was = self._node, self._node.role
        if term > node.term:
            node.set_hard_state(term, None)
        node.role = Role.FOLLOWER
        node.leader_id = leader
        self._votes = set()
        self._trial = False
        if was is Role.LEADER:
            self._restart_clock()
        self._electorate.on_follower(was)

    # -- asking ----------------------------------------------------------------------------------

    def _campaign(self, *, trial: bool, transfer: bool = False) -> None:
        """Ask all voters, in a trial first: a node that cannot win must not disturb the term."""
        node = self._node
        node.leader_id = None
        self._trial = trial
        if trial:
            term = node.term + 1
        else:
            self.held += 1
            term = node.term + 1
            node.set_hard_state(term, ballot(node.node_id, node.identity.incarnation))
            node.role = Role.CANDIDATE
            log.info("election_called", extra={"fields": {"term": term, "transfer": transfer}})
        self._votes = {node.node_id}
        self.incarnations_seen = {node.node_id: node.identity.incarnation}
        configuration = self._electorate.configuration
        request = VoteRequest(
            term, node.last_index, node.last_term, trial, transfer, configuration.version
        )
        for voter in configuration.voters:
            if voter != node.node_id:
                node.send_after_sync(voter, request)
        if trial:
            self._count_votes()

    def count_own_vote(self) -> None:
        """Its own vote counts from now on: to be called when the log is durable.

        Where it is enough, as that of the only voter, a leader would else be heard of in a term
        that its disk does not know, and give its vote to another in it after a crash.
        """
        if self._votes and not self._trial:
            self._count_votes()

    def on_reply(self, sender: str, incarnation: bytes, reply: VoteReply) -> None:
        """Count a vote, once per voter, if it is for the election under way."""
        node = self._node
        if reply.term > node.term:
            self.become_follower(reply.term, None)
            return
        asked = node.term + 1 if self._trial else node.term
        if not self._votes or reply.trial != self._trial or reply.asked != asked:
            return
        members = self._electorate.configuration
        # Who is let in may not be the voter that this log has under its name: see `Links`.
        counts = sender in members.voters and members.recognises(sender, incarnation)
        if reply.granted and counts:
            self._votes.add(sender)
            self.incarnations_seen[sender] = incarnation
            self._count_votes()

    def _count_votes(self) -> None:
        node, configuration = self._node, self._electorate.configuration
        if len(self._votes & configuration.voters.keys()) < configuration.votes_to_lead:
            return
        self._votes = set()
        if self._trial:
            self._campaign(trial=False)
        elif node.role is Role.CANDIDATE:
            node.role = Role.LEADER
            node.leader_id = node.node_id
            self._deadline = node.now()
            log.info("leader_elected", extra={"fields": {"term": node.term}})
            self._electorate.on_elected()

    # -- answering -------------------------------------------------------------------------------

    def on_request(self, sender: str, incarnation: bytes, request: VoteRequest) -> None:
        """Give a vote, or refuse it without letting the asker disturb a leader that is heard."""
        node = self._node
        if self._was_removed(sender, request):
            version = self._electorate.committed_configuration.version
            node.send_after_sync(sender, Removed(node.term, version))
            return
        if self._hears_a_leader() and not request.transfer:
            self._answer(sender, request, granted=False)
            return
        if request.trial:
            granted = request.term > node.term and self._is_up_to_date(request)
            self._answer(sender, request, granted=granted)
            return
        if request.term > node.term:
            self.become_follower(request.term, None)
        candidate = ballot(sender, incarnation)
        granted = (
            request.term == node.term
            and node.voted_for in (None, candidate)
            and self._is_up_to_date(request)
        )
        if granted and node.voted_for is None:
            node.set_hard_state(node.term, candidate)
            self._restart_clock()
        self._answer(sender, request, granted=granted)

    def on_timeout_now(self, sender: str, message: TimeoutNow) -> None:
        """Take over from the leader that asks for it."""
        node = self._node
        asked_by_leader = message.term == node.term and sender == node.leader_id
        if asked_by_leader and self._is_voter() and self._electorate.may_lead:
            self._campaign(trial=False, transfer=True)

    def _answer(self, sender: str, request: VoteRequest, *, granted: bool) -> None:
        reply = VoteReply(self._node.term, request.term, request.trial, granted)
        self._node.send_after_sync(sender, reply)

    def _is_up_to_date(self, request: VoteRequest) -> bool:
        node = self._node
        return (request.last_term, request.last_index) >= (node.last_term, node.last_index)

    def _hears_a_leader(self) -> bool:
        """Leader stickiness. A leader that lost its majority steps down by itself."""
        node = self._node
        return node.leads or (
            node.leader_id is not None and node.now() - self._heard_at < node.timing.election_min
        )

    def _was_removed(self, sender: str, request: VoteRequest) -> bool:
        configuration = self._electorate.committed_configuration
        return (
            bool(configuration.voters)
            and sender not in configuration.participants
            and request.configuration_version < configuration.version
        )

    # -- time ------------------------------------------------------------------------------------

    def _is_voter(self) -> bool:
        """Whether this node may ask for votes, though its own may not count.

        As long as its removal is not committed, it may be the only one that can lead: the others
        lack that entry, and need its vote (Ongaro's thesis, 4.2.2).
        """
        identity, electorate = self._node.identity, self._electorate
        return any(
            identity.node_id in members.voters
            and members.recognises(identity.node_id, identity.incarnation)
            for members in (electorate.configuration, electorate.committed_configuration)
        )

    def _restart_clock(self) -> None:
        timing = self._node.timing
        patience = self._node.rng.uniform(timing.election_min, timing.election_max)
        self._deadline = self._node.now() + patience

    def _bear_with_own_stall(self, now: float) -> None:
        """Do not blame the leader for this node's own pause: hear first what it said meanwhile."""
        timing = self._node.timing
        stalled = self._last_tick is not None and now - self._last_tick > timing.election_min / 2
        if stalled and not self._was_stalled:
            self._deadline = max(self._deadline, now + 2 * timing.heartbeat)
        self._was_stalled = stalled
        if self._last_tick is None:
            self._restart_clock()
        self._last_tick = now
