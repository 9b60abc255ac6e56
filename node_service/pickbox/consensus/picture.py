"""What the core looks like from outside, taken between two ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pickbox.consensus.library import Role
from pickbox.members import Member, Members
from pickbox.seams import ConsensusStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.core import SafeSyncObj


def status_of(core: SafeSyncObj) -> ConsensusStatus:
    """A consistent picture of the log; only for the tick thread."""
    configuration = core.configuration
    connected = core.connected_ids
    present = (connected | {core.node_id}) & configuration.voters.keys()
    known_commit = max(core.commit_index, core.following.leader_commit_index)
    return ConsensusStatus(
        role=core.role.name.lower(),
        leader=core.leader_id,
        term=core.term,
        commit_index=core.commit_index,
        applied_index=core.applied_index,
        last_index=core.last_index,
        lag=max(0, known_commit - core.applied_index),
        has_quorum=bool(present) and len(present) >= configuration.majority,
        match_index=_match_index(core),
        connected=tuple(sorted(connected)),
        last_contact=0.0 if core.leads else core.elections.silence,
    )


def members_of(configuration: Configuration, places: Mapping[str, tuple[str, ...]]) -> Members:
    """The members as the other parts of a node know them; `places` is where others are met."""
    nodes = [
        Member(
            node_id,
            participant.address,
            node_id in configuration.voters,
            places.get(node_id, (participant.address,)),
        )
        for node_id, participant in sorted(configuration.participants.items())
    ]
    return Members(configuration.version, tuple(nodes))


def _match_index(core: SafeSyncObj) -> dict[str, int]:
    if core.role is not Role.LEADER:
        return {}
    return {node_id: peer.match_index for node_id, peer in core.appending.peers.items()}
