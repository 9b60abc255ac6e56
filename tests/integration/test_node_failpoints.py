"""A node ended at each failpoint comes back, and every node has every write that was taken."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, Node, put_until_acknowledged

from pickbox.consensus.log import Examination, ReadOnlyDisk, examine
from pickbox.failpoints import EXIT_CODE, NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster

SETTINGS = {"compact_bytes": str(1 << 20), "compact_entries": "40", "compact_keep": "0"}
"""Small, so that snapshots are made and needed in every test."""

HOUSEKEEPING = {"sweep_before_delete", "sweep_after_delete"}
"""It begins minutes after a start; tests/unit/test_failpoints_sweep.py does not wait for it."""

HERE = sorted(set(NAMES) - HOUSEKEEPING)

IN_A_LEADER_TOO = ["append_after_sync", "apply_mid", "propose_after"]
"""Where a leader is at another point of a write than its followers are."""

AT_A_LATER_HIT = {
    "ack_before_send": 30,
    "append_after_sync": 10,
    "append_before_sync": 10,
    "apply_mid": 2,
    "commit_before_apply": 2,
    "dirty_before_mark": 3,
    "scan_mid": 3,
    "state_before_commit": 5,
}
"""What a start hits too is to end a node that is at work."""

SMALL, INLINE, LARGE = 1000, 30_000, 300_000


@dataclass
class Written:
    """What was acknowledged over HTTP, and what was left in a node's folder: path -> content."""

    files: dict[str, bytes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def put(self, nodes: list[Node], name: str, size: int) -> None:
        """Write a new file over HTTP, at the first of `nodes` that takes it."""
        path, content = f"{name}-{next(self.numbers)}", os.urandom(size)
        put_until_acknowledged(nodes, path, content)
        self.files[path] = content

    def drop(self, node: Node, path: str, size: int) -> None:
        """Write into a node's folder."""
        content = os.urandom(size)
        (node.files / path).write_bytes(content)
        self.files[path] = content

    def drop_new(self, node: Node, name: str, size: int) -> None:
        """Write a new file into a node's folder."""
        self.drop(node, f"{name}-{next(self.numbers)}", size)

    def replace(self, node: Node, path: str) -> None:
        """Delete in a node's folder, and write the same path anew."""
        (node.files / path).unlink()
        self.drop(node, path, SMALL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("failpoints"), **SETTINGS) as cluster:
        yield cluster
        errors = {node.node_id: _unasked_errors(node) for node in cluster}
        assert not any(errors.values()), f"nodes logged errors: {errors}"


@pytest.fixture(scope="module")
def written(cluster: Cluster) -> Written:
    written = Written()
    for name in ("edited", "replaced"):
        written.drop(cluster["node1"], name, SMALL)
    cluster.wait_settled()
    return written


def _unasked_errors(node: Node) -> list[object]:
    """What is broken, beside what was armed; that a peer's death cut a connection is not."""
    grave = [event for event in node.errors() if event["level"] in ("error", "critical")]
    return [event for event in grave if event["event"] != "failpoints_armed"]


@pytest.mark.parametrize(
    ("name", "role"),
    [*((name, "follower") for name in HERE), *((name, "leader") for name in IN_A_LEADER_TOO)],
)
def test_a_node_that_dies_at_a_failpoint_loses_nothing(
    name: str, role: str, cluster: Cluster, written: Written
) -> None:
    victim = cluster.leader() if role == "leader" else cluster.followers()[0]
    BEFORE_ITS_START.get(name, stop)(cluster, victim, written)
    victim.environment["PICKBOX_FAILPOINTS"] = f"{name}=exit@{AT_A_LATER_HIT.get(name, 1)}"
    victim.start()
    if role == "leader":
        take_the_lead(cluster, victim)
    if name == "configuration_before_apply":
        somebody_moves(cluster, victim)
    work_until_it_dies(cluster, victim, written)
    assert victim.process is not None
    assert victim.process.returncode == EXIT_CODE
    hits = [event for event in victim.events() if event["event"] == "failpoint_hit"]
    assert hits[-1]["failpoint"] == name

    del victim.environment["PICKBOX_FAILPOINTS"]
    cluster.heal()
    settled = cluster.wait_settled()
    assert set(settled) == {os.fsencode(path) for path in written.files}
    for node in cluster:
        different = [p for p, c in written.files.items() if (node.files / p).read_bytes() != c]
        assert not different, f"{node.node_id} has other content of {different}"


def work_until_it_dies(cluster: Cluster, victim: Node, written: Written) -> None:
    """Write at the victim and elsewhere, small and large, over HTTP and in folders."""
    others = others_than(victim, cluster)
    size = itertools.cycle((SMALL, LARGE))
    deadline = time.monotonic() + 60.0
    while victim.running():
        assert time.monotonic() < deadline, f"{victim.node_id} was not ended"
        written.put([victim, *others], "small-at-the-victim", SMALL)
        written.put([*others, victim], "large-elsewhere", LARGE)
        written.put([victim, *others], "large-at-the-victim", LARGE)
        written.drop_new(victim, "dropped", next(size))
        written.drop(others[0], "edited", SMALL)
        written.replace(others[0], "replaced")


# -- what leaves the victim stopped, so that its failpoint is before it ----------------------------


def stop(cluster: Cluster, victim: Node, written: Written) -> None:
    """Ask the victim to stop."""
    assert victim.stop() == 0


def miss_a_snapshot(cluster: Cluster, victim: Node, written: Written) -> None:
    """Stop the victim until the leader's log has let go of what it lacks."""
    stop(cluster, victim, written)
    others = others_than(victim, cluster)
    leader = cluster.leader_of(others)
    deadline = time.monotonic() + 60.0
    while log_of(leader).first_index <= log_of(victim).last_index + 1:
        assert time.monotonic() < deadline, f"{leader.node_id} keeps its log"
        written.put(others, "missed", INLINE)


def be_deposed(cluster: Cluster, victim: Node, written: Written) -> None:
    """Have the victim lead, alone; kill it with an entry in its log that its successor lacks.

    The others are killed: one that is stopped finds the entry in its socket when it goes on.
    """
    others = others_than(victim, cluster)
    while True:
        take_the_lead(cluster, victim)
        before = log_of(victim).last_index
        for node in others:
            node.kill()
        written.drop_new(victim, "not-committed", SMALL)
        lonely = grows_beyond(before, victim)  # else it has stepped down before it looked
        if lonely:
            victim.kill()
        for node in others:
            node.start()
        if lonely:
            written.put(others, "instead", SMALL)
            return


def grows_beyond(index: int, node: Node, seconds: float = 3.0) -> bool:
    """Whether the node's log gets another entry soon."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if log_of(node).last_index > index:
            return True
        time.sleep(0.02)
    return False


BEFORE_ITS_START: dict[str, Callable[[Cluster, Node, Written], None]] = {
    "snapshot_receive_mid": miss_a_snapshot,
    "snapshot_after_load": miss_a_snapshot,
    "truncate_before": be_deposed,
}


# -- what happens to the cluster -------------------------------------------------------------------


def take_the_lead(cluster: Cluster, victim: Node) -> None:
    """Hand leadership to the victim, unless its end has come already."""
    deadline = time.monotonic() + 30.0
    target = {"target": victim.node_id}
    while victim.running() and (leader := cluster.leader()) is not victim:
        assert time.monotonic() < deadline, f"{victim.node_id} was not given the lead"
        leader.admin_request("POST", "/api/v1/leader", json=target)


def somebody_moves(cluster: Cluster, victim: Node) -> None:
    """Have another follower come back at another address, which the members then agree on."""
    cluster.wait_ready([victim])
    moved = next(node for node in cluster.followers() if node is not victim)
    assert moved.stop() == 0
    cluster.move(moved)
    moved.start()


def others_than(victim: Node, cluster: Cluster) -> list[Node]:
    return [node for node in cluster if node is not victim]


def log_of(node: Node) -> Examination:
    """The log of a node, read beside it."""
    return examine(ReadOnlyDisk(), str(node.directory / "raft" / "log"))
