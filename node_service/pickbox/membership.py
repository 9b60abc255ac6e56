"""What operators do to the members: add, promote, remove; and this node's own address.

Every change is made by the leader, one at a time (`pickbox.consensus.membership`). A node that goes
is first counted no more and only let go when a majority of the rest has all content.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from pickbox.errors import ChangeRefused, ChangeTooEarly, NoLeader, NotFound, PickboxError
from pickbox.members import Member, MemberChange, Members
from pickbox.replication.peers import PeerError

if TYPE_CHECKING:
    from pickbox.control import Control
    from pickbox.replication.peers import Peers
    from pickbox.seams import Consensus
    from pickbox.settings import Settings
    from pickbox.status import NodeStatus

log = logging.getLogger(__name__)

_CHANGE_SECONDS: Final = 5.0
_PEER_SECONDS: Final = 2.0
_ADDRESS_PAUSE: Final = 1.0
_LOOK_AGAIN: Final = 0.01


class MemberChanges:
    """Implements `pickbox.seams.Membership`, from whichever node is asked."""

    def __init__(
        self, settings: Settings, consensus: Consensus, control: Control, peers: Peers
    ) -> None:
        self._settings = settings
        self._consensus = consensus
        self._control = control
        self._peers = peers
        self._address_wrong = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_address, name="address", daemon=True)

    # -- what operators ask -------------------------------------------------------------------

    def members(self) -> Members:
        """Who takes part, as this node's log says."""
        return self._consensus.members()

    def add(self, node_id: str, address: str) -> Members:
        """Send the log to `node_id`, as a learner; a member at that address stays what it is."""
        members = self.members()
        known = members.get(node_id)
        if known is not None and known.address == address:
            return members
        if known is not None:
            raise ChangeRefused(
                f"{node_id} is a member at {known.address} already: remove it first",
                field="node_id",
            )
        return self._change(MemberChange.ADD, node_id, address)

    def promote(self, node_id: str) -> Members:
        """Count the learner `node_id`, once it has caught up with log and content."""
        member = self._known(node_id)
        if member.voter:
            return self.members()
        status = self._status(node_id)
        in_force = self._control.status().level
        if status.understands < in_force:
            raise ChangeRefused(
                f"{node_id} runs release {status.version}, which understands level "
                f"{status.understands}, and the cluster is at level {in_force}: start the "
                "release there that the others run",
                field="node_id",
            )
        lacking = status.figures.pending
        if lacking:
            raise ChangeTooEarly(
                f"{node_id} still fetches the content of {lacking} files: wait until it has it",
                field="node_id",
            )
        return self._change(MemberChange.PROMOTE, node_id)

    def remove(self, node_id: str, *, force: bool = False) -> Members:
        """Let `node_id` go: hand over its office, count it no more, wait for content, remove it.

        Asked again, it goes on where it was. With `force` nobody waits for content: what only that
        node has is lost.

        Raises:
            ChangeTooEarly: it cannot go yet; the text says what is waited for.
            ChangeRefused: without it there is no majority.
        """
        if self._known(node_id).voter:
            self._refuse_if_the_rest_has_no_quorum(node_id)
            if self._consensus.status().leader == node_id:
                self._control.transfer_leadership(None)
            self._change(MemberChange.DEMOTE, node_id)
        if not force:
            self._refuse_until_drained(node_id)
        return self._change(MemberChange.REMOVE, node_id)

    # -- the address of this node ---------------------------------------------------------------

    def start(self) -> None:
        """Have the members know this node's address, now and after each change."""
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._address_wrong.set()

    def check_address(self, members: Members) -> None:
        """Called with the members in force: another address than the settings' is put right."""
        mine = members.get(self._settings.node_id)
        if mine is not None and mine.address != self._own_address:
            self._address_wrong.set()

    @property
    def _own_address(self) -> str:
        return self._settings.peers[self._settings.node_id].address

    def _keep_address(self) -> None:
        while self._address_wrong.wait() and not self._stopping.is_set():
            self._address_wrong.clear()
            try:
                self._change(MemberChange.MOVE, self._settings.node_id, self._own_address)
                log.info("address_changed", extra={"fields": {"address": self._own_address}})
            except PickboxError as error:
                log.info("address_not_changed", extra={"fields": {"why": error.detail}})
                self._stopping.wait(_ADDRESS_PAUSE)
                self.check_address(self.members())

    # -- inside -------------------------------------------------------------------------------

    def _change(self, change: MemberChange, node_id: str, address: str = "") -> Members:
        """Have the leader make one change to the members as this node knows them."""
        before = self.members()
        leader = self._consensus.status().leader
        if leader is None:
            raise NoLeader("there is no leader to change the members: wait for an election")
        if leader == self._settings.node_id:
            version = self._consensus.change_members(
                change, node_id, address=address, version=before.version, timeout=_CHANGE_SECONDS
            )
        else:
            version = self._peers.expect(leader).change_members(
                change, node_id, address, before.version, _CHANGE_SECONDS
            )
        return self._members_from(version)

    def _members_from(self, version: int) -> Members:
        """The members, as soon as this node's log has them at `version`."""
        deadline = time.monotonic() + _CHANGE_SECONDS
        while self.members().version < version and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN)
        return self.members()

    def _known(self, node_id: str) -> Member:
        member = self.members().get(node_id)
        if member is None:
            known = ", ".join(m.node_id for m in self.members().nodes) or "none"
            raise NotFound(f"{node_id} is not a member; members are {known}", field="node_id")
        return member

    def _refuse_if_the_rest_has_no_quorum(self, node_id: str) -> None:
        rest = [voter for voter in self.members().voters if voter != node_id]
        if not rest:
            raise ChangeRefused(
                f"{node_id} is the only voter: add and promote another one first", field="node_id"
            )
        up = [voter for voter in rest if self._answers(voter)]
        if len(up) < len(rest) // 2 + 1:
            raise ChangeRefused(
                f"without {node_id} there would be {len(rest)} voters, of which only "
                f"{', '.join(up) or 'none'} answer: no majority. Start the others first",
                field="node_id",
            )

    def _refuse_until_drained(self, node_id: str) -> None:
        """See that a majority of the rest has applied and fetched all that is committed."""
        members, committed = self.members(), self._consensus.status().commit_index
        lacking = {
            voter: self._lacks(voter, committed) for voter in members.voters if voter != node_id
        }
        whole = [voter for voter, lack in lacking.items() if not lack]
        if len(whole) < len(lacking) // 2 + 1:
            told = "; ".join(f"{voter} {lack}" for voter, lack in lacking.items() if lack)
            raise ChangeTooEarly(
                f"{node_id} is counted no more, and goes when a majority of the rest has all "
                f"content: {told}. Ask again, or force it and lose what only {node_id} has",
                field="node_id",
            )

    def _lacks(self, voter: str, committed: int) -> str:
        try:
            status = self._status(voter)
        except ChangeTooEarly:
            return "does not answer"
        if status.applied_index < committed:
            return f"has {committed - status.applied_index} entries to apply"
        pending = status.figures.pending
        return f"lacks the content of {pending} files" if pending else ""

    def _answers(self, node_id: str) -> bool:
        try:
            self._status(node_id)
        except ChangeTooEarly:
            return False
        return True

    def _status(self, node_id: str) -> NodeStatus:
        if node_id == self._settings.node_id:
            return self._control.status()
        try:
            return self._peers.expect(node_id).status(_PEER_SECONDS)
        except (PeerError, NoLeader) as error:
            raise ChangeTooEarly(
                f"{node_id} does not answer ({error}): is it started?", field="node_id"
            ) from error
