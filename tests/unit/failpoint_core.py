"""A process with a whole cluster of the core on real logs and snapshots, for failpoints to end.

``failpoint_core.py DIRECTORY work`` commits, replaces entries of a deposed leader, compacts, sends
a snapshot and takes a member in; it prints ``acknowledged COMMAND`` as soon as it may be said.
``failpoint_core.py DIRECTORY look`` starts the same nodes again, commits one more command, and
prints ``NODE COMMAND`` for all that each of them has applied. The clock is turned by hand and
chance comes from a seed, so each life goes the same way until a failpoint ends it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgpack
from consensus_cluster import Clock, Cluster, ListMachine, fake_clock

from pickbox import failpoints
from pickbox.consensus.log import DurableLog, RealDisk
from pickbox.consensus.proposals import Fate, Outcome
from pickbox.observability.logs import configure

if TYPE_CHECKING:
    from pickbox.consensus.core import SafeSyncObj

SEGMENT_BYTES = 16 << 10
COMMAND_BYTES = 4 << 10


class DurableMachine(ListMachine):
    """Keeps what was applied in a file too, one record behind the other."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 - as long as the machine
        self._file.seek(0)
        self._set([(index, command) for index, command in msgpack.Unpacker(self._file)])

    def _set(self, applied: list[tuple[int, bytes]]) -> None:
        self.applied = applied
        self.applied_index = applied[-1][0] if applied else 0

    def apply(self, index: int, command: bytes) -> object:
        self._file.write(msgpack.packb((index, command)))
        return super().apply(index, command)

    def load(self, path: str) -> None:
        super().load(path)
        with open(f"{self._path}.new", "wb") as new:
            new.writelines(map(msgpack.packb, self.applied))
        os.replace(f"{self._path}.new", self._path)
        self._file.close()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115


class DurableCluster(Cluster):
    """Nodes whose logs, snapshots and machines outlive the process."""

    def __init__(self, clock: Clock, directory: str) -> None:
        self.base = directory
        super().__init__(clock, f"{directory}/snapshots", snapshot_every=60, keep_trailing=0)
        if os.path.exists(f"{directory}/snapshots/D"):
            self.start("D", joining=True)
            self.network.heal()

    def start(self, node_id: str, **how: Any) -> SafeSyncObj:
        log = f"{self.base}/logs/{node_id}"
        self.logs[node_id] = DurableLog.open(RealDisk(), log, segment_bytes=SEGMENT_BYTES)  # type: ignore[assignment]
        self.machines[node_id] = DurableMachine(f"{self.base}/machines/{node_id}")
        return super().start(node_id, **how)

    def commit(self, node_id: str, name: str, count: int) -> None:
        """Have the leader commit `count` commands, and tell when it may be told."""
        commands = [f"{name}-{number}".encode() for number in range(count)]
        outcomes = [0] * count

        def answered(position: int, outcome: Outcome) -> None:
            assert outcome.fate is Fate.COMMITTED, outcome
            outcomes[position] = 1
            say(b"acknowledged " + commands[position])

        for position, command in enumerate(commands):
            filled = command.ljust(COMMAND_BYTES, b".")
            self.nodes[node_id].propose(filled, lambda o, at=position: answered(at, o))  # type: ignore[misc]
        self.until(lambda: all(outcomes))

    def other_leader(self, than: str) -> str:
        """Wait for another leader than that one."""
        self.until(lambda: self.leader not in (None, than))
        assert self.leader is not None
        return self.leader


def say(line: bytes) -> None:
    """A line on stdout, past every buffer."""
    os.write(1, line + b"\n")


def work(cluster: DurableCluster) -> None:
    leader = cluster.elect()
    cluster.commit(leader, "first", 20)
    leader = replace_entries(cluster, leader)
    leave_behind(cluster, leader)
    take_in(cluster, leader)
    cluster.commit(cluster.elect(), "last", 20)


def replace_entries(cluster: DurableCluster, deposed: str) -> str:
    """Have a leader append what it cannot commit, and lose it to its successor."""
    cluster.network.isolate(deposed)
    cluster.propose(deposed, b"doomed-1", b"doomed-2")
    successor = cluster.other_leader(deposed)
    cluster.commit(successor, "instead", 5)
    cluster.network.heal()
    cluster.run(1.0)
    return cluster.elect()


def leave_behind(cluster: DurableCluster, leader: str) -> None:
    """Compact the log while a follower is away, so that it gets a snapshot."""
    behind = cluster.followers()[0]
    cluster.network.isolate(behind)
    cluster.commit(leader, "missed", 100)
    cluster.nodes[leader].request_snapshot()
    cluster.run(1.0)
    cluster.network.heal()
    cluster.until(lambda: len(cluster.machines[behind].applied) >= 125)


def take_in(cluster: DurableCluster, leader: str) -> None:
    """Add a learner, and let it vote."""
    node = cluster.nodes[leader]
    cluster.start("D", joining=True)
    cluster.network.heal()
    for method, arguments in (("add_learner", ("D", "D:1")), ("promote", ("D",))):
        changed: list[Outcome] = []
        getattr(node.membership, method)(*arguments, node.configuration.version, changed.append)
        cluster.until(lambda answers=changed: answers)  # type: ignore[misc]
        assert changed[0].fate is Fate.COMMITTED, changed[0]
        cluster.run(2.0)


def look(cluster: DurableCluster) -> None:
    cluster.commit(cluster.elect(), "look", 1)
    members = cluster.nodes[cluster.elect()].configuration.participants
    machines = {node_id: cluster.machines[node_id] for node_id in members}
    cluster.until(lambda: len({tuple(m.commands) for m in machines.values()}) == 1)
    for node_id, machine in machines.items():
        for command in machine.commands:
            say(node_id.encode() + b" " + command.rstrip(b"."))


def never_sync() -> None:
    """Save the time: what a process that ends has written stays in the page cache."""
    os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]


if __name__ == "__main__":
    never_sync()
    configure("warning", "core")
    failpoints.arm()
    with fake_clock() as clock:
        {"work": work, "look": look}[sys.argv[2]](DurableCluster(clock, sys.argv[1]))
