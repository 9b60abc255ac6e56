"""A node of a real cluster is taken out of service and put back, once, or it is said why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cluster import TOKEN, wait_until
from module_runs import failure, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster, Node

pytestmark = pytest.mark.cluster

SETTINGS = {"election_timeout": "5"}  # who leads is compared around runs that take a second


@pytest.fixture(autouse=True)
def in_service(module_cluster: Cluster) -> Iterator[None]:
    """Put back what a test has drained, for a drained node never becomes ready."""
    yield
    for node in module_cluster.running():
        node.resume()
        node.admin_request("DELETE", "/api/v1/drain")


def settings(node: Node, **changes: Any) -> dict[str, Any]:
    return {"url": node.admin, "token": TOKEN, **changes}


def test_the_leader_is_drained_once_it_leads_no_more_and_is_put_back(cluster: Cluster) -> None:
    node = cluster.leader()
    drained = run("drain", **settings(node))
    assert (drained["changed"], drained["node_id"]) == (True, node.node_id)
    assert not node.ready()
    assert node.put("drained", b"x").status == 503
    assert drained["leader"] == cluster.leader().node_id != node.node_id
    assert not run("drain", **settings(node))["changed"]

    back = run("drain", **settings(node, state="active"))
    assert (back["changed"], back["diff"]["before"]) == (True, "state: drained\n")
    wait_until(node.ready, "it is ready again")
    assert node.put("back", b"x").status == 201
    assert not run("drain", **settings(node, state="active"))["changed"]


def test_check_mode_tells_and_drains_nothing(cluster: Cluster) -> None:
    node = cluster.leader()
    told = run("drain", check=True, **settings(node))
    assert (told["changed"], told["diff"]["after"]) == (True, "state: drained\n")
    assert (node.ready(), cluster.leader()) == (True, node)
    assert not run("drain", check=True, **settings(node, state="active"))["changed"]
    run("drain", **settings(node))
    assert run("drain", check=True, **settings(node, state="active"))["changed"]
    assert not node.ready()


def test_a_node_that_no_other_can_follow_in_office_is_not_drained(
    cluster: Cluster,
) -> None:
    leader, others = cluster.roles()
    for node in others:
        node.admin_request("POST", "/api/v1/drain")
        node.pause()
    said = failure("drain", **settings(leader, timeout=8))
    assert said.startswith("Making the node drained failed after ")
    assert f"{leader.admin} is draining, and no other node leads" in said


def test_a_wrong_token_is_said_at_once(cluster: Cluster) -> None:
    said = failure("drain", **settings(cluster["node1"], token="a-wrong-one"))
    assert f"{cluster['node1'].admin}/api/v1/status answers 401 unauthorized: " in said
    assert said.endswith("Give the admin token that the nodes were started with.")
    assert cluster["node1"].ready()


def test_a_node_that_is_down_cannot_be_drained(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    node.kill()
    said = failure("drain", **settings(node, timeout=1))
    assert f"{node.admin}/api/v1/status does not answer ([Errno 111] Connection refused)" in said
    assert "See that the node runs" in said


def test_a_node_that_hangs_is_not_waited_for_longer_than_wanted(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    node.pause()
    said = failure("drain", **settings(node, timeout=1))
    assert f"{node.admin}/api/v1/status does not answer (timed out)" in said
