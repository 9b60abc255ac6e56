"""The core weakened in one place each: what the simulation has to find, to be believed.

Those that are said to have been found are faults that this simulation did find in the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pickbox.consensus.appending import Appending
from pickbox.consensus.configuration import Configuration
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.elections import Elections
from pickbox.consensus.following import Following
from pickbox.consensus.handover import Handover
from pickbox.consensus.library import LibraryNode
from pickbox.consensus.links import Links
from pickbox.consensus.log import records
from pickbox.consensus.log.durable_log import DurableLog
from pickbox.consensus.log.segment import Segment
from pickbox.consensus.membership import Membership
from pickbox.consensus.proposals import Fate, Outcome
from pickbox.consensus.reads import Reads
from pickbox.consensus.snapshot_store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Weakening = Callable[[pytest.MonkeyPatch], None]


def _true(*_: object) -> bool:
    return True


def _nothing(*_: object) -> None: ...


# -- durability ----------------------------------------------------------------------------------


def acknowledges_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LibraryNode, "send_after_sync", LibraryNode.send)


def counts_itself_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    def unsynced(self: Any, configuration: Any) -> int:
        held = {n: peer.match_index for n, peer in self.peers.items()}
        return int(self._reached_by_majority(configuration, self._node.last_index, held))

    patch.setattr(Appending, "committable", unsynced)
    patch.setattr(SafeSyncObj, "_make_durable", lambda self: self.release_held())


def forgets_its_vote(patch: pytest.MonkeyPatch) -> None:
    def set_hard_state(self: Any, term: int, voted_for: str | None) -> None:
        self._SyncObj__raftCurrentTerm = term
        self._SyncObj__votedForNodeId = voted_for
        self._given_log.set_hard_state(term, None)

    patch.setattr(LibraryNode, "set_hard_state", set_hard_state)


def syncs_no_segment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Segment, "sync", _nothing)


def believes_the_kernel_at_its_start(patch: pytest.MonkeyPatch) -> None:
    """Found: what a killed process had left to the kernel was counted, and then lost."""
    patch.setattr(Segment, "assure", _nothing)


def says_not_what_a_snapshot_ended(patch: pytest.MonkeyPatch) -> None:
    """Found: entries of another past than the snapshot's were read again, and called damage."""
    compact, write = DurableLog.compact_to, DurableLog._write_later

    def compact_to(self: Any, index: int, term: int, *, keep_trailing: int) -> None:
        ended = records.encode_number(records.RecordType.TRUNCATE, index + 1)
        self._write_later = lambda record: None if record == ended else write(self, record)
        compact(self, index, term, keep_trailing=keep_trailing)
        del self._write_later

    patch.setattr(DurableLog, "compact_to", compact_to)


def leaves_a_segment_without_its_preamble(patch: pytest.MonkeyPatch) -> None:
    """Found: a vote went with the segments before one that a crash had left empty."""
    make_writable, write = DurableLog._make_writable, DurableLog._write_preamble

    def _make_writable(self: Any, found: Any) -> None:
        there = set(found.segments)
        self._write_preamble = lambda new: None if new.number in there else write(self, new)
        make_writable(self, found)
        del self._write_preamble

    patch.setattr(DurableLog, "_make_writable", _make_writable)


def syncs_no_snapshot_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SnapshotStore, "_sync_directory", _nothing)


# -- elections -----------------------------------------------------------------------------------


def leads_before_its_own_vote_is_durable(patch: pytest.MonkeyPatch) -> None:
    """Found: the only voter led a term that its disk did not know, and voted for another in it."""
    campaign = Elections._campaign

    def _campaign(self: Any, **how: bool) -> None:
        campaign(self, **how)
        self.count_own_vote()

    patch.setattr(Elections, "_campaign", _campaign)


def votes_for_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Elections, "_is_up_to_date", _true)


def votes_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LibraryNode, "voted_for", property(lambda self: None))


def begins_with_a_majority(patch: pytest.MonkeyPatch) -> None:
    """Of voters whose data directories nobody knows yet."""
    patch.setattr(Configuration, "votes_to_lead", property(lambda self: self.majority))


def knows_nobody_by_its_data(patch: pytest.MonkeyPatch) -> None:
    """A wiped node votes and counts as the one that it was."""

    def counted(self: Any, voter: str, configuration: Any, others: dict[str, int]) -> int:
        return others.get(voter, 0)

    def heard_round(self: Any, sender: str, incarnation: bytes, round_: int) -> None:
        peer = self.peers[sender]
        peer.incarnation = incarnation
        peer.round = max(peer.round, min(round_, self.round))

    patch.setattr(Configuration, "recognises", _true)
    patch.setattr(Appending, "_counted", counted)
    patch.setattr(Appending, "heard_round", heard_round)
    patch.setattr("pickbox.consensus.elections.ballot", lambda node_id, _: node_id)


def records_no_data_directories_of_two(patch: pytest.MonkeyPatch) -> None:
    """Found: a new cluster of two never committed anything."""

    def knows(self: Any) -> bool:
        return len(self.voters) < 3 or all(voter.incarnation for voter in self.voters.values())

    patch.setattr(Configuration, "knows_its_voters", property(knows))


def campaigns_only_in_force(patch: pytest.MonkeyPatch) -> None:
    """Found: a node whose removal is not committed was needed to lead, and did not."""

    def is_voter(self: Any) -> bool:
        identity, members = self._node.identity, self._electorate.configuration
        return identity.node_id in members.voters and members.recognises(
            identity.node_id, identity.incarnation
        )

    patch.setattr(Elections, "_is_voter", is_voter)


# -- the log -------------------------------------------------------------------------------------


def takes_what_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    def fits(self: Any, previous: int, append: Any) -> bool:
        return bool(previous <= self._node.last_index)

    patch.setattr(Following, "_agrees_at", fits)


def truncates_what_matches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Following, "_skip_matching", lambda self, previous, entries: previous)


def acknowledges_all_that_it_has(patch: pytest.MonkeyPatch) -> None:
    """Not what was compared with the leader's log."""
    settle = Following.settle

    def settle_with_all(self: Any) -> None:
        if self._match_index >= 0:
            self._match_index = self._node.last_index
        settle(self)

    patch.setattr(Following, "settle", settle_with_all)


def commits_with_one_too_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Configuration, "majority", property(lambda self: max(1, len(self.voters) // 2)))


def commits_older_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    def counted(self: Any, configuration: Any) -> int:
        held = {n: peer.match_index for n, peer in self.peers.items()}
        return int(self._reached_by_majority(configuration, self._node.raft_log.synced_index, held))

    patch.setattr(Appending, "committable", counted)


# -- members -------------------------------------------------------------------------------------


def counts_learners(patch: pytest.MonkeyPatch) -> None:
    def reached(self: Any, configuration: Any, own: int, others: dict[str, int]) -> int:
        nodes = {self._node.node_id: own, **others}
        held = [nodes.get(node_id, 0) for node_id in configuration.participants]
        return sorted(held, reverse=True)[configuration.majority - 1]

    patch.setattr(Appending, "_reached_by_majority", reached)


def changes_members_while_changing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SafeSyncObj, "configuration_is_committed", property(_true))


def changes_members_at_once_when_elected(patch: pytest.MonkeyPatch) -> None:
    """The fault of single-server changes that was found in 2015."""
    refusal = Membership._refusal

    def refuses(self: Any, version: int) -> str:
        why = refusal(self, version)
        return "" if "just elected" in why else why

    patch.setattr(Membership, "_refusal", refuses)


def links_only_to_those_in_force(patch: pytest.MonkeyPatch) -> None:
    """Found: a deposed leader did not let its successor in, whose removal it alone knew of."""

    def follow(self: Any, leaving: Any) -> None:
        participants = self._core.configuration.participants
        places = {n: (p.address,) for n, p in participants.items()}
        told = {n: (address,) for n, address in self._contacts.items()}
        self._core.set_peers({**leaving, **(places or told)})

    patch.setattr(Links, "follow_members", follow)


def introduces_nobody(patch: pytest.MonkeyPatch) -> None:
    """Found: a member that was away refused a leader that had joined meanwhile."""
    patch.setattr(Links, "introduce_members", _nothing)


def knows_members_by_its_log_alone(patch: pytest.MonkeyPatch) -> None:
    """Found: a member that was away refused a leader that had lost its data and joined anew."""

    def recognises(self: Any, node_id: str, incarnation: bytes) -> bool:
        return bool(self._core.configuration.recognises(node_id, incarnation))

    patch.setattr(Links, "recognises", recognises)


def looks_where_its_log_says(patch: pytest.MonkeyPatch) -> None:
    """Found: two that had both moved did not find each other, though one knew of it."""

    def follow(self: Any, leaving: Any) -> None:
        core = self._core
        introduced = self._introduced.participants if self._has_news else {}
        by_log = {**core.committed_configuration.participants, **core.configuration.participants}
        members = {**introduced, **by_log}
        places = {n: self._places(n, p.address) for n, p in members.items()}
        told = {n: (address,) for n, address in self._contacts.items()}
        core.set_peers({**leaving, **(places or told)})

    patch.setattr(Links, "follow_members", follow)


# -- reads and transfers -------------------------------------------------------------------------


def reads_without_a_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reads, "_confirm", _confirm_at_once)


def _confirm_at_once(reads: Any) -> None:
    if reads._round is not None:
        reads._confirmed.append(reads._round)
        reads._round = None


def reads_by_its_clock(patch: pytest.MonkeyPatch) -> None:
    """As long as that says that a majority was heard a short while ago."""
    confirm = Reads._confirm

    def confirm_by_clock(self: Any) -> None:
        appending = self._appending
        silence = appending._node.now() - appending.majority_heard_at(self._core.configuration)
        if silence < appending._node.timing.election_min:
            _confirm_at_once(self)
        confirm(self)

    patch.setattr(Reads, "_confirm", confirm_by_clock)


def reads_before_its_term_is_committed(patch: pytest.MonkeyPatch) -> None:
    class Eager:
        own_term_is_committed = True

        def __init__(self, core: Any) -> None:
            self._core = core

        def __getattr__(self, name: str) -> Any:
            return getattr(self._core, name)

    begin = Reads.__init__
    patch.setattr(
        Reads, "__init__", lambda self, core, appending: begin(self, Eager(core), appending)
    )


def says_too_soon_that_it_has_handed_over(patch: pytest.MonkeyPatch) -> None:
    tick = Handover.tick

    def hasty(self: Any) -> None:
        if self._pending is not None and self._pending.asked:
            self._end(Outcome(Fate.COMMITTED, value=self._pending.target))
        tick(self)

    patch.setattr(Handover, "tick", hasty)
