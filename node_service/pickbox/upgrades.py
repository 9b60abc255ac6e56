"""The end of an upgrade: from then on the cluster uses what came with the new release.

Releases of one major version run side by side, at the level of the older one. Nothing of the new
one is in the log or in a catalog before an operator says so, here, so until then every node can go
back. See docs/reference/versions.md.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pickbox.changes import Raise
from pickbox.errors import NoLeader, UpgradeRefused
from pickbox.levels import LEVELS
from pickbox.replication.peers import PeerError
from pickbox.status import UnderstoodBy, UpgradeStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.control import Control
    from pickbox.replication.peers import Peers
    from pickbox.seams import ChangeProposer, Consensus
    from pickbox.settings import Settings
    from pickbox.status import NodeStatus

log = logging.getLogger(__name__)

_PEER_SECONDS: Final = 2.0
_BARRIER_SECONDS: Final = 5.0


class ClusterUpgrade:
    """Implements `pickbox.seams.Upgrade`, from whichever node is asked.

    Args:
        barrier: returns once all is applied that was committed before; raises `PickboxError`.
    """

    def __init__(
        self,
        settings: Settings,
        consensus: Consensus,
        control: Control,
        peers: Peers,
        proposer: ChangeProposer,
        barrier: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._consensus = consensus
        self._control = control
        self._peers = peers
        self._proposer = proposer
        self._barrier = barrier

    def status(self) -> UpgradeStatus:
        """How far it is; asks every member."""
        nodes = tuple(self._ask(member.node_id) for member in self._consensus.members().nodes)
        target = max((node.understands for node in nodes), default=0)
        return UpgradeStatus(self._control.status().level, target, nodes)

    def finish(self) -> UpgradeStatus:
        """Raise the cluster to the highest level that a member understands, if all of them do.

        Raises:
            UpgradeRefused: one does not, or did not answer; nothing was changed.
            NoLeader, OutcomeUnknown: as for any change; it may be asked for again.
        """
        self._refuse_unless_member()
        self._barrier(_BARRIER_SECONDS)  # else a member may be missing that was added just now
        found = self.status()
        # A member that does not answer may understand more than all others, or less.
        lacking = [node for node in found.nodes if node.understands < found.target]
        if lacking:
            raise UpgradeRefused(
                f"the cluster stays at level {found.level}: "
                + "; ".join(_why_not(node, found.target) for node in lacking)
            )
        if found.finished:
            return found
        release = next(level.release for level in LEVELS if level.number == found.target)
        self._proposer.propose(
            [Raise(found.target, release)], timeout=self._settings.request_timeout
        )
        log.info("upgrade_finished", extra={"fields": {"level": found.target}})
        return UpgradeStatus(self._control.status().level, found.target, found.nodes)

    def _refuse_unless_member(self) -> None:
        """Whoever is none may know less than its members, and is not asked by `status`."""
        members = self._consensus.members()
        if members.get(self._settings.node_id) is None:
            known = ", ".join(member.node_id for member in members.nodes) or "its members"
            raise UpgradeRefused(f"{self._settings.node_id} is not a member: ask one of {known}")

    def _ask(self, node_id: str) -> UnderstoodBy:
        try:
            status = self._status(node_id)
        except (PeerError, NoLeader) as error:
            return UnderstoodBy(node_id, error=str(error))
        return UnderstoodBy(node_id, status.version, status.understands)

    def _status(self, node_id: str) -> NodeStatus:
        if node_id == self._settings.node_id:
            return self._control.status()
        return self._peers.expect(node_id).status(_PEER_SECONDS)


def _why_not(node: UnderstoodBy, target: int) -> str:
    if node.error:
        return f"{node.node_id} does not answer ({node.error}): start it, or remove it"
    return (
        f"{node.node_id} runs release {node.version}, which understands level {node.understands} "
        f"and not {target}: upgrade it"
    )
