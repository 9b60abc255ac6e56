"""Nodes that come and go while the cluster is used: content is never on too few of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import urllib3
from cluster import TOKEN, Cluster, Node, put_until_acknowledged, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def members(node: Node, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """``pickbox members`` at a node."""
    variables = {
        **{key: value for key, value in os.environ.items() if "PICKBOX" not in key},
        "PICKBOX_ADMIN_URL": node.admin,
        "PICKBOX_ADMIN_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "pickbox", "members", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, timeout=90, check=False)


def roles(node: Node) -> dict[str, str]:
    listed = json.loads(members(node, "--json").stdout)["members"]
    return {member["node_id"]: member["role"] for member in listed}


def says(node: Node, words: str) -> bool:
    """Whether the node gives these words among its reasons for not being ready."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):  # it is being started
        return words in node.request("GET", "/api/health").data.decode()
    return False


def test_a_node_joins_with_all_content_and_the_leader_leaves(cluster: Cluster) -> None:
    large = os.urandom(3 << 20)
    assert cluster["node1"].put("large", large).status == 201
    for number in range(20):
        put_until_acknowledged([cluster["node1"]], f"before/{number}", b"%d" % number)

    joined = cluster.join("node4")
    joined.start()
    wait_until(lambda: says(joined, "is not a member"), "it says that it is no member")
    added = members(cluster["node2"], "add", "node4", f"127.0.0.1:{joined.ports[0]}")
    assert added.returncode == 0, added.stderr
    voters = dict.fromkeys((f"node{n}" for n in range(1, 5)), "voter")
    wait_until(lambda: roles(cluster["node3"]) == voters, "another node knows it too")
    cluster.wait_ready()
    cluster.wait_settled()
    assert (joined.files / "large").read_bytes() == large

    leaving = cluster.leader()
    rest = [node for node in cluster if node is not leaving]
    removed = members(leaving, "remove", leaving.node_id)
    assert removed.returncode == 0, removed.stderr
    wait_until(lambda: says(leaving, "was removed"), "the removed node says so")
    assert leaving.put("late", b"x").status == 503
    assert leaving.get("large").status == 503
    leaving.kill()
    put_until_acknowledged(rest, "after", os.urandom(1 << 20))
    cluster.wait_settled()
    left = sorted(node.node_id for node in rest)
    wait_until(lambda: sorted(roles(rest[0])) == left, "the others are members alone")


def test_a_removal_that_leaves_no_majority_is_refused(cluster: Cluster) -> None:
    leader, (follower, other) = cluster.roles()
    other.kill()
    refused = members(leader, "remove", follower.node_id, "--timeout", "1")
    assert refused.returncode == 4
    assert b"no majority. Start the others first" in refused.stderr
    assert roles(leader)[follower.node_id] == "voter"


def test_a_dead_node_is_replaced_by_an_empty_one_of_the_same_name(cluster: Cluster) -> None:
    content = os.urandom(1 << 20)
    assert cluster["node1"].put("large", content).status == 201
    cluster.wait_settled()
    dead = cluster.followers()[0]
    dead.kill()
    dead.directory.rename(dead.directory.with_suffix(".lost"))
    dead.environment["PICKBOX_BOOTSTRAP"] = "false"
    dead.start()
    leader = cluster.leader_of(node for node in cluster if node is not dead)
    wait_until(lambda: says(dead, "another data directory"), "its old name is refused")
    assert members(leader, "remove", dead.node_id).returncode == 0
    added = members(leader, "add", dead.node_id, f"127.0.0.1:{dead.ports[0]}")
    assert added.returncode == 0, added.stderr
    cluster.wait_ready()
    cluster.wait_settled()
    assert (dead.files / "large").read_bytes() == content


def test_one_survivor_becomes_a_new_cluster_by_decree(cluster: Cluster) -> None:
    acknowledged = {f"f{n}": os.urandom(2000) for n in range(10)}
    for name, content in acknowledged.items():
        assert cluster["node1"].put(name, content).status == 201
    cluster.wait_settled()
    survivor = cluster["node1"]
    for node in cluster:
        node.kill()
    command = [sys.executable, "-m", "pickbox", "recover", "--force-new-cluster"]
    asked = subprocess.run(
        command, env=survivor.environment, input=b"no\n", capture_output=True, check=False
    )
    assert (asked.returncode, b"Nothing was changed" in asked.stderr) == (1, True)
    done = subprocess.run(
        command, env=survivor.environment, input=b"node1\n", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"node1 is the only voter; node2, node3 was one before" in done.stdout
    survivor.start()
    cluster.wait_ready([survivor])
    for name, content in acknowledged.items():
        assert survivor.get(name).data == content
    assert survivor.put("new", b"alone").status == 201
    assert roles(survivor) == {"node1": "voter"}


def test_a_node_that_has_moved_is_found_at_its_new_address(cluster: Cluster) -> None:
    moved = cluster.followers()[0]
    assert moved.stop() == 0
    cluster.move(moved)
    moved.start()
    cluster.wait_ready()
    address = f"127.0.0.1:{moved.ports[0]}"
    wait_until(
        lambda: all(address.encode() in members(n, "--json").stdout for n in cluster),
        "all know the new address",
    )
    put_until_acknowledged([moved], "after", os.urandom(1 << 20))
    cluster.wait_settled()


def test_a_node_that_has_moved_is_found_by_those_whose_settings_say_otherwise(
    cluster: Cluster,
) -> None:
    """After a restart, when it has done all its moving: to lead, and to take content."""
    moved = cluster.followers()[0]
    assert moved.stop() == 0
    cluster.move(moved)
    moved.start()
    cluster.wait_ready()
    others = [node for node in cluster if node is not moved]
    for node in others:
        assert node.stop() == 0
        node.start()
        cluster.wait_ready()
    cluster.hand_over(moved)
    others[0].kill()
    assert others[1].put("both-hold-it", os.urandom(1 << 20)).status == 201
    (others[1].files / "edited").write_bytes(os.urandom(1000))
    cluster.wait_settled()


def test_all_nodes_may_move_at_once_when_each_is_told(cluster: Cluster) -> None:
    content = os.urandom(1 << 20)
    assert cluster["node1"].put("before", content).status == 201
    cluster.wait_settled()
    for node in cluster:
        node.stop()
    for node in cluster:
        cluster.move(node)
    peers = cluster["node3"].environment["PICKBOX_PEERS"]  # who moved last knows all
    for node in cluster:
        node.environment["PICKBOX_PEERS"] = peers
        node.start()
    cluster.wait_ready()
    assert cluster["node2"].put("after", content).status == 201
    cluster.wait_settled()
