"""The way out when a majority of the voters is lost for good: a cluster of one, by decree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pickbox.consensus.booting import continue_from, read_history
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.library import MEMBERSHIP

if TYPE_CHECKING:
    from pickbox.consensus.library import Identity, RaftLog
    from pickbox.consensus.snapshot_store import SnapshotStore


class NothingToRecover(Exception):
    """The log has no members in it: this node never was part of a cluster."""


def force_new_cluster(
    log: RaftLog, store: SnapshotStore, identity: Identity, address: str
) -> Configuration:
    """Make this node the only voter, on the disk; the node must be stopped.

    What is in its log counts as committed, acknowledged or not; what only the lost nodes had is
    gone. The others must never be started with their data directories again: they may still elect
    a leader of the old cluster among themselves. Returns the members that were before.

    Raises:
        NothingToRecover: there are no members in the log.
    """
    if store.latest is not None:
        continue_from(log, store.latest)
    before = read_history(log, store.latest, identity.cluster_id).current
    if not before.voters:
        raise NothingToRecover(
            "this node has never been told who the members are: start it with the settings of a "
            "new cluster instead"
        )
    alone = replace(
        before,
        version=before.version + 1,
        voters={identity.node_id: Participant(address, identity.incarnation)},
        learners={},
    )
    last = log.last_index
    last_term = log.term_at(last) if len(log) else log.compacted[1]
    term = max(log.hard_state.term, last_term) + 1
    log.set_hard_state(term, None)
    log.add(MEMBERSHIP + alone.encode(), last + 1, term)
    log.sync()
    return before
