"""`SafeSyncObj`: pysyncobj with the parts that decide replaced, one by one, by safe ones.

A tick hears what came, decides, makes the log durable once, and only then lets out what is a
promise. Nothing here blocks, knows the time but from the library's clock, or draws chance but from
one generator: so a simulation can run a whole cluster in one thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pickbox.consensus.appending import Appending
from pickbox.consensus.applying import Applying, Machine
from pickbox.consensus.booting import boot, continue_from, read_history
from pickbox.consensus.compaction import Compaction
from pickbox.consensus.configuration import Configuration
from pickbox.consensus.divergence import Divergence
from pickbox.consensus.elections import Elections
from pickbox.consensus.following import Following
from pickbox.consensus.handover import Handover
from pickbox.consensus.library import (
    MEMBERSHIP,
    NO_OP,
    REGULAR,
    Identity,
    LibraryNode,
    RaftLog,
    Role,
)
from pickbox.consensus.links import Links
from pickbox.consensus.membership import Membership
from pickbox.consensus.messages import Diverged, WireMessage
from pickbox.consensus.options import Hooks, Options
from pickbox.consensus.proposals import Proposal, Proposals
from pickbox.consensus.reads import Reads
from pickbox.consensus.receiving import Receiving
from pickbox.consensus.reviewed import check_library
from pickbox.consensus.snapshots import SnapshotReceiver, SnapshotSender
from pickbox.consensus.standing import Standing
from pickbox.failpoints import failpoint

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pysyncobj.node import Node

    from pickbox.consensus.proposals import Callback
    from pickbox.consensus.snapshot_store import Snapshot, SnapshotStore

_TAKE: Final = 4096
_TAKE_BYTES: Final = 4 << 20


class SafeSyncObj(LibraryNode):
    """One node of a cluster, driven by `doTick`.

    Args:
        identity: who this node is.
        raft_log: the durable log, recovered. It is closed by `close`.
        machine: what committed commands are applied to.
        store: where its snapshots are.
        transport_class: called as the library calls its own.
        bootstrap: the first configuration of a new cluster, the same on all of its nodes; None
            on a node that will be added to a cluster. Looked at only when the log is empty.
        contacts: id -> address, as the settings say; whom to listen to while no configuration is
            known, and where to look for members first until the log records another address.
        rng: the only source of chance.

    Raises:
        LibraryNotReviewed: pysyncobj is not the one that this was built on.
        StateContradiction: snapshot, log and state machine do not belong together.
    """

    def __init__(
        self,
        identity: Identity,
        raft_log: RaftLog,
        machine: Machine,
        store: SnapshotStore,
        transport_class: Callable[..., Any],
        *,
        rng: random.Random,
        bootstrap: Configuration | None = None,
        contacts: dict[str, str] | None = None,
        options: Options | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        check_library()
        self._options = options or Options()
        self._hooks = hooks or Hooks()
        self._machine = machine
        self._store = store
        self._posted: deque[Callable[[], None]] = deque()
        self._told_role: tuple[Role, int, str | None] | None = None
        self._own_term_index = 0
        self._make_parts(machine, store)
        started = boot(raft_log, store, machine, identity.cluster_id, bootstrap)
        self.history = started.history
        self.links = Links(self, contacts or {}, self.history.current)
        super().__init__(identity, raft_log, transport_class, self._options.timing, rng)
        self.applied_index = started.applied_index
        self.commit_index = max(started.applied_index, min(self.commit_index, self.last_index))
        self._follow_configuration()

    def _make_parts(self, machine: Machine, store: SnapshotStore) -> None:
        options = self._options
        self.proposals = Proposals(options.most_queued)
        self.elections = Elections(self, self)
        self.snapshot_sender = SnapshotSender(self, store)
        self.appending = Appending(self, self.snapshot_sender, options.batch_bytes)
        self.following = Following(self, self)
        self.applying = Applying(
            self,
            machine,
            self.proposals,
            refusals=options.refusals,
            hash_every=options.hash_every,
            budget=options.timing.heartbeat / 3,
            on_wrong_release=self.stand_aside,
        )
        self.membership = Membership(self, self.appending, self.proposals)
        self.reads = Reads(self, self.appending)
        self.handover = Handover(self, self.appending)
        self.divergence = Divergence()
        self.standing = Standing(self, self._hooks.on_standing)
        self.snapshot_receiver = SnapshotReceiver(self, store, self)
        self._compaction = Compaction(self, machine, store, options, self._hooks.on_snapshot)
        self._receiving = Receiving(self)

    # -- for any thread ----------------------------------------------------------------------------

    def propose(self, command: bytes, callback: Callback) -> None:
        """Have `command` committed if this node leads; `callback` hears exactly once.

        It runs on the tick thread, or on the caller's if the queue is full or closed.
        """
        self.proposals.submit(Proposal(REGULAR + command, callback))
        self.wake()

    def post(self, call: Callable[[], None]) -> None:
        """Run `call` on the tick thread, in the next tick."""
        self._posted.append(call)
        self.wake()

    def request_snapshot(self) -> None:
        """Have a snapshot made soon, and the log compacted by it."""
        self.post(self._compaction.request)

    # -- the tick --------------------------------------------------------------------------------

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803 - the library's names
        began = self.now()
        self._run_posted()
        self.elections.tick()
        self.handover.tick()
        self._admit_proposals()
        self.reads.tick()
        if self.leads:
            self.appending.send()
        self.following.settle()
        self._make_durable()
        if self.leads:
            self._commit_what_a_majority_holds()
        self.applying.run()
        self.reads.tick()
        if self.leads:
            self.appending.announce_commit()
        self._compaction.tick()
        self._watch_states()
        self.standing.tick()
        self.proposals.expire(self.now())
        self._tell_role()
        self._hooks.on_tick(self.now() - began)
        self.wait(0.0 if self._has_work() else min(timeToWait, self._until_next_deadline()))

    def _run_posted(self) -> None:
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def _has_work(self) -> bool:
        return bool(
            self._posted
            or (self.proposals.queued and self._admits)
            or self.following.owes
            or self.holds_messages
            or self.raft_log.dirty
            or self.applying.behind
            or self.reads.waiting
        )

    def _until_next_deadline(self) -> float:
        due = self.appending.next_deadline if self.leads else self.elections.next_deadline
        return due - self.now()

    def _admit_proposals(self) -> None:
        if not self.leads:
            self.proposals.refuse_queued("this node does not lead")
        elif self._admits:
            term, taken = self.term, self.proposals.take(_TAKE, _TAKE_BYTES)
            for index, proposal in enumerate(taken, self.last_index + 1):
                self.add_entry(proposal.command, index, term)
                self.proposals.expect(index, term, proposal.callback)

    @property
    def _admits(self) -> bool:
        """Whether proposals are taken in: not while handing over, nor when too many wait."""
        return not self.handover.under_way and self.proposals.waiting < self._options.most_queued

    def _make_durable(self) -> None:
        """The barrier: one sync of the log, then what is a promise may leave."""
        if self.raft_log.dirty:
            self.raft_log.sync()
        self.release_held()
        self.elections.count_own_vote()

    def _commit_what_a_majority_holds(self) -> None:
        if self.commit_index < self.last_index:
            self.commit_to(self.appending.committable(self.configuration))

    def _tell_role(self) -> None:
        role = (self.role, self.term, self.leader_id)
        if role != self._told_role:
            self._told_role = role
            self._hooks.on_role(*role)

    def _watch_states(self) -> None:
        if not self.leads:
            return
        index, state_hash = self.applying.checkpoint
        if index:
            self.divergence.report(self.node_id, index, state_hash)
        for node_id, at in self.divergence.found(self.configuration):
            if node_id == self.node_id:
                self.diverged(at)
            else:
                self.send(node_id, Diverged(self.term, at))

    # -- entries: what the follower's side does with them ------------------------------------------

    def add_entry(self, command: bytes, index: int, term: int) -> None:
        """Append an entry; a configuration is in force from here on."""
        self.raft_log.add(command, index, term)
        if command[:1] == MEMBERSHIP:
            self.history.append(index, Configuration.decode(command[1:]))
            self._follow_configuration()

    def append_own(self, command: bytes) -> int:
        """As the leader: append an entry of this term; returns its index."""
        index = self.last_index + 1
        self.add_entry(command, index, self.term)
        return index

    def truncate_from(self, index: int) -> None:
        """Drop uncommitted entries that the leader does not have."""
        self.raft_log.truncate_from(index)
        self.proposals.lost_sight_from(index)
        if self.history.truncate_from(index):
            self._follow_configuration()

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed."""
        if index <= self.commit_index:
            return
        if self.configuration_is_committed:
            self.commit_index = index
            return
        before = self.committed_configuration
        self.commit_index = index
        if self.committed_configuration is not before:
            self._members_are_committed(before)

    def _members_are_committed(self, before: Configuration) -> None:
        self.standing.configuration_committed(before, self.committed_configuration)
        self.connect_members()
        self.links.introduce_members(sorted(self.connected_ids))

    def state_checkpoint(self) -> tuple[int, bytes]:
        """Index and hash of the last state that was hashed."""
        return self.applying.checkpoint

    @property
    def own_term_is_committed(self) -> bool:
        """As the leader: whether what is known to be committed is all that is."""
        return self.commit_index >= self._own_term_index

    # -- membership in force -----------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The members in force: the last that were appended."""
        return self.history.current

    @property
    def configuration_is_committed(self) -> bool:
        return self.history.current_index <= self.commit_index

    @property
    def committed_configuration(self) -> Configuration:
        """The last members that are committed."""
        return self.history.at(self.commit_index)

    def _follow_configuration(self) -> None:
        self.connect_members()
        if self.leads:
            self.appending.reconfigure(self.configuration)
        self._hooks.on_configuration(self.configuration, self.places)

    def connect_members(self) -> None:
        """Keep links to the members in force, and to those who are just leaving."""
        self.links.follow_members(self.standing.leaving)

    # -- elections: what they ask of the rest ------------------------------------------------------

    @property
    def may_lead(self) -> bool:
        """Whether this node could serve if it led: its disk takes what the log says."""
        return self.applying.refusal is None and not self.standing.reason

    def majority_heard_at(self) -> float:
        """When the last heartbeat round began that a majority has answered."""
        return self.appending.majority_heard_at(self.configuration)

    def on_elected(self) -> None:
        """Begin to lead: an entry of the own term first, so that older ones can be committed."""
        self.divergence.forget()
        self.appending.begin(self.configuration)
        if self.configuration.knows_its_voters:
            first = NO_OP
        else:
            seen = self.elections.incarnations_seen
            first = MEMBERSHIP + self.configuration.with_incarnations(seen).encode()
        self._own_term_index = self.append_own(first)

    def on_follower(self, was: Role) -> None:
        """Stop leading: who waits for an entry hears soon, whatever becomes of it."""
        if was is Role.LEADER:
            self.snapshot_sender.forget_all()
            self.proposals.give_up_by(self.now() + self.timing.election_max)

    def step_aside(self) -> None:
        """Lead no more."""
        if self.leads:
            self.elections.become_follower(self.term, None)

    def diverged(self, index: int) -> None:
        """This node's state is not what the majority has: it leads no more, and says so."""
        self.stand_aside(f"the state after entry {index} differs from the majority's")
        self._hooks.on_diverged(index)

    def stand_aside(self, why: str) -> None:
        """Lead no more, and serve nothing, whoever the members are."""
        self.standing.set(why, for_good=True)
        self.step_aside()

    # -- snapshots ---------------------------------------------------------------------------------

    def take_in(self, snapshot: Snapshot) -> None:
        """Continue from a received snapshot; see `Installation`."""
        has = self._machine.applied_index
        try:
            self._store.load_into(self._machine.load, snapshot)
        except BaseException:
            # Once the machine has it, no log fits the machine any more but with the snapshot.
            if self._machine.applied_index == has:
                self._store.uninstall(snapshot)
            raise
        failpoint("snapshot_after_load")
        before = self.committed_configuration
        continue_from(self.raft_log, snapshot)
        self.history = read_history(self.raft_log, snapshot, self.identity.cluster_id)
        self.applied_index = snapshot.index
        self.commit_index = max(self.commit_index, snapshot.index)
        self._members_are_committed(before)
        self.applying.forget_states()
        self.proposals.lost_sight_to(snapshot.index)
        self._follow_configuration()
        self._compaction.compact_to(snapshot)
        self._store.drop_older()

    # -- the library's own entrances ---------------------------------------------------------------

    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802 - the library's name
        super()._SyncObj__onNodeConnected(node)
        self.links.introduce_members([str(node.id)])
        self.appending.link_changed(str(node.id))

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802 - the library's name
        super()._SyncObj__onNodeDisconnected(node)
        self.appending.link_changed(str(node.id))

    def _SyncObj__onMessageReceived(  # noqa: N802 - the library's name
        self, node: Node, wire: WireMessage
    ) -> None:
        self._receiving.on_wire(str(node.id), wire)

    def close(self) -> None:
        """Answer all who wait, and close transport and log."""
        self.proposals.close("the node stops")
        self.handover.close("the node stops")
        self.reads.close("the node stops")
        self.snapshot_sender.forget_all()
        self.snapshot_receiver.abandon()
        super().close()
