"""All nodes are asked who the members are, and the latest list counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pickbox.cluster.plugins.modules import cluster_info, members_info
from cluster import TOKEN
from module_runs import failure, run

if TYPE_CHECKING:
    from cluster import Cluster


def listed(version: int, **roles: str) -> dict[str, Any]:
    members = [
        {"node_id": name, "address": f"{name}:1", "role": role} for name, role in roles.items()
    ]
    return {"version": version, "members": members}


def test_the_latest_list_counts() -> None:
    found = members_info.latest(
        {
            "node1": listed(7, node1="voter", node3="learner"),
            "node2": listed(5, node1="voter", node2="voter"),
            "node3": "refused",
        }
    )
    assert found["voters"] == ["node1"]
    assert found["learners"] == ["node3"]
    assert found["members"]["node3"] == {"address": "node3:1", "role": "learner"}
    assert found["source"] == "node1"
    assert found["silent"] == {"node3": "refused"}


def test_a_node_that_was_told_of_no_members_does_not_count() -> None:
    found = members_info.latest({"node1": listed(9), "node2": listed(1, node2="voter")})
    assert found["voters"] == ["node2"]


def test_nobody_answers_and_nothing_is_known() -> None:
    found = members_info.latest({"node1": "refused"})
    assert (found["members"], found["voters"], found["version"]) == ({}, [], 0)


def test_a_node_that_another_one_reaches_is_reached() -> None:
    views = [{"node_id": "node1", "reachable": True}, {"node_id": "node2", "reachable": False}]
    seen = cluster_info.summarise({"node1": {"leader": "node1", "nodes": views}, "node3": "x"})
    assert seen["reached"] == ["node1"]


def test_that_nobody_answers_is_a_failure_unless_it_may_be() -> None:
    nodes = {"node1": "http://127.0.0.1:1"}
    assert "No node says who the members are: node1: " in failure(
        "members_info", nodes=nodes, token=TOKEN
    )
    assert run("members_info", nodes=nodes, token=TOKEN, required=False)["members"] == {}


@pytest.mark.cluster
def test_a_cluster_says_who_its_members_are(cluster: Cluster) -> None:
    nodes = {node.node_id: node.admin for node in cluster}
    found = run("members_info", nodes=nodes, token=TOKEN)
    assert sorted(found["voters"]) == ["node1", "node2", "node3"]
    assert not found["changed"]
    assert "401" in failure("members_info", nodes=nodes, token="a-wrong-one")
