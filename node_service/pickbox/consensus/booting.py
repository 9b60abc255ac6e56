"""Where a node takes up: the snapshot, the log and the state machine made to agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pickbox.consensus.configuration import Configuration, ConfigurationHistory
from pickbox.consensus.library import MEMBERSHIP

if TYPE_CHECKING:
    from pickbox.consensus.applying import Machine
    from pickbox.consensus.library import RaftLog
    from pickbox.consensus.snapshot_store import Snapshot, SnapshotStore


class StateContradiction(Exception):
    """Snapshot, log and state machine do not belong together; the text says how to go on."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a node knows at its start.

    Attributes:
        history: the configurations in snapshot and log.
        applied_index: the last entry whose effect the state machine has.
    """

    history: ConfigurationHistory
    applied_index: int


def boot(
    log: RaftLog,
    store: SnapshotStore,
    machine: Machine,
    cluster_id: str,
    bootstrap: Configuration | None,
) -> Boot:
    """Prepare `log` and `machine` for the first tick.

    With `bootstrap`, an empty log gets its first entry: the same on all nodes that start a cluster.

    Raises:
        StateContradiction: something that belongs to the node is missing.
        SnapshotDamaged: the snapshot is needed and is not what was written.
    """
    snapshot = store.latest
    if snapshot is not None:
        continue_from(log, snapshot)
    elif len(log) == 0 and log.compacted == (0, 0) and bootstrap is not None:
        log.add(MEMBERSHIP + bootstrap.encode(), 1, 0)
    _load_if_behind(store, machine, snapshot)
    applied = machine.applied_index
    if snapshot is not None and machine.applied_index >= snapshot.machine_index:
        applied = max(applied, snapshot.index)
    if applied > log.last_index:
        raise StateContradiction(
            f"the state machine has applied log entry {applied}, but the log ends at "
            f"{log.last_index}: the log was lost or replaced. Move the node's data directory away "
            "and add the node to the cluster again"
        )
    if len(log) and applied < log.first_index - 1:
        raise StateContradiction(
            f"the log begins at entry {log.first_index}, but the state machine has applied only up "
            f"to {applied} and no snapshot has the rest. Move the node's data directory away and "
            "add the node to the cluster again"
        )
    return Boot(read_history(log, snapshot, cluster_id), applied)


def _load_if_behind(store: SnapshotStore, machine: Machine, snapshot: Snapshot | None) -> None:
    if snapshot is not None and machine.applied_index < snapshot.machine_index:
        store.load_into(machine.load, snapshot)


def continue_from(log: RaftLog, snapshot: Snapshot) -> None:
    """Make `log` go on from `snapshot`, and keep all entries after it if they belong to it."""
    begins = log.first_index if len(log) else log.compacted[0] + 1
    if begins <= snapshot.index <= log.last_index:
        if log.term_at(snapshot.index) == snapshot.term:
            return
    elif begins == snapshot.index + 1:
        return
    elif begins > snapshot.index:
        raise StateContradiction(
            f"the log begins at entry {begins}, after the newest snapshot, which ends at "
            f"{snapshot.index}: what is between is lost. Move the node's data directory away and "
            "add the node to the cluster again"
        )
    log.compact_to(snapshot.index, snapshot.term, keep_trailing=0)


def read_history(log: RaftLog, snapshot: Snapshot | None, cluster_id: str) -> ConfigurationHistory:
    """The configurations in `snapshot` and in the entries after it."""
    if snapshot is None:
        history = ConfigurationHistory(Configuration(cluster_id=cluster_id))
        covered = 0
    else:
        history = ConfigurationHistory(snapshot.configuration, snapshot.index)
        covered = snapshot.index
    for position in range(max(0, covered + 1 - log.first_index), len(log)):
        command, index, _ = log[position]  # one at a time: all may be more than the memory holds
        if command[:1] == MEMBERSHIP:
            history.append(index, Configuration.decode(command[1:]))
    return history
