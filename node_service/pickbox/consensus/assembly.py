"""Opens what a node's log is made of, and puts the core together from it."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pickbox.consensus.booting import StateContradiction
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.divergence import NodeDiverged, refuse_if_diverged
from pickbox.consensus.identity import WrongIdentity, claim_identity
from pickbox.consensus.library import REGULAR, CannotListen
from pickbox.consensus.log import DurableLog, LogDamaged, LogStopped, LogTooNew, RealDisk
from pickbox.consensus.options import Options
from pickbox.consensus.reviewed import LibraryNotReviewed
from pickbox.consensus.snapshot_store import SnapshotDamaged, SnapshotStore
from pickbox.consensus.timing import Timing
from pickbox.ports import cannot_listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pickbox.consensus.options import Hooks
    from pickbox.seams import StateMachine
    from pickbox.settings import Settings

REFUSALS: Final = (OSError, MemoryError, sqlite3.Error)
"""What the state machine raises where this node's disk, memory or SQLite is in trouble."""

LOG_DIRECTORY: Final = "raft/log"
SNAPSHOT_DIRECTORY: Final = "raft/snapshots"

_ELECTION_SPREAD: Final = 1.75
_LARGEST_SEGMENT: Final = 64 << 20
UNUSABLE: Final = (
    WrongIdentity,
    NodeDiverged,
    LogDamaged,
    LogTooNew,
    LogStopped,
    SnapshotDamaged,
    StateContradiction,
    LibraryNotReviewed,
    BlockingIOError,
)
"""What keeps a log from being opened; the texts say what to do."""


class LogUnusable(Exception):
    """The log cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A core that has not ticked yet, and its log."""

    core: SafeSyncObj
    log: DurableLog


def assemble(
    settings: Settings,
    machine: StateMachine,
    transport: Callable[..., Any],
    hooks: Hooks,
    aside: Callable[[Callable[[], None]], None],
    on_sync: Callable[[float], None],
) -> Assembled:
    """Open the log in the data directory; bind the port.

    Args:
        aside: runs a function on a thread of its own.
        on_sync: hears the seconds that each sync of the log took.

    Raises:
        LogUnusable: something in the data directory does not fit.
        OSError, sqlite3.Error: the port is taken, or the disk refuses.
    """
    try:
        return _assemble(settings, machine, transport, hooks, aside, on_sync)
    except CannotListen as error:
        raise OSError(cannot_listen("port", settings.host, settings.port, error)) from error
    except BlockingIOError as error:
        raise LogUnusable(
            f"{settings.data_dir / LOG_DIRECTORY} is in use by another process: stop it, or give "
            "this node another PICKBOX_DATA_DIR"
        ) from error
    except UNUSABLE as error:
        raise LogUnusable(str(error)) from error


def _assemble(
    settings: Settings,
    machine: StateMachine,
    transport: Callable[..., Any],
    hooks: Hooks,
    aside: Callable[[Callable[[], None]], None],
    on_sync: Callable[[float], None],
) -> Assembled:
    identity = claim_identity(settings.data_dir, settings.node_id, settings.cluster_name)
    refuse_if_diverged(settings.data_dir)
    log, store = open_log(settings, on_sync)
    addresses = {peer.node_id: peer.address for peer in settings.peers.values()}
    voters = {node_id: Participant(address) for node_id, address in addresses.items()}
    if store.latest is not None:
        machine.recall_from(store.data_path(store.latest), store.latest.machine_index)
    for index, command in _commands_since_snapshot(log, store):
        machine.recall(index, command)
    try:
        core = SafeSyncObj(
            identity,
            log,
            machine,
            store,
            transport,
            rng=random.Random(),  # noqa: S311 - it spreads elections, and hides nothing
            bootstrap=Configuration(1, identity.cluster_id, voters) if settings.bootstrap else None,
            contacts=addresses,
            options=Options(
                timing=timing(settings),
                refusals=REFUSALS,
                snapshot_every=settings.compact_entries,
                keep_trailing=settings.compact_keep,
                aside=aside,
            ),
            hooks=hooks,
        )
    except BaseException:
        log.close()
        raise
    return Assembled(core, log)


def open_log(
    settings: Settings, on_sync: Callable[[float], None] = lambda _: None
) -> tuple[DurableLog, SnapshotStore]:
    """Recover log and snapshots in the data directory; what is not there is made.

    Raises:
        LogDamaged, LogTooNew, SnapshotDamaged: what is there cannot be used.
        LogStopped: the disk refuses.
        BlockingIOError: another process has the log open.
    """
    directory = settings.data_dir / LOG_DIRECTORY
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    # Entries go by whole segments: a log that is compacted early wants small ones.
    segment_bytes = min(settings.compact_bytes, _LARGEST_SEGMENT)
    log = DurableLog.open(RealDisk(), str(directory), segment_bytes=segment_bytes, on_sync=on_sync)
    return log, SnapshotStore(str(settings.data_dir / SNAPSHOT_DIRECTORY))


def timing(settings: Settings) -> Timing:
    """The core's clocks, from what an operator sets."""
    shortest = settings.election_timeout
    return Timing(settings.heartbeat_interval, shortest, _ELECTION_SPREAD * shortest)


def _commands_since_snapshot(log: DurableLog, store: SnapshotStore) -> Iterator[tuple[int, bytes]]:
    """Commands that no snapshot has: what they did to the folder may not be durable."""
    covered = store.latest.index if store.latest else 0
    for position in range(len(log)):
        command, index, _ = log[position]
        if covered < index and command[:1] == REGULAR:
            yield index, command[1:]
