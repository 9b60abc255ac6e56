"""Leadership is handed over on a real cluster, once, and every failure says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cluster import TOKEN, wait_until
from module_runs import failure, run

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.cluster

SETTINGS = {"election_timeout": "5"}  # who leads is compared around runs that take a second


def settings(cluster: Cluster, **changes: Any) -> dict[str, Any]:
    return {"urls": [node.admin for node in cluster], "token": TOKEN, **changes}


def test_another_node_leads_and_is_named_and_then_nothing_is_to_be_done(cluster: Cluster) -> None:
    old = cluster.leader().node_id
    moved = run("leader", **settings(cluster, not_on=old))
    assert (moved["changed"], moved["before"]) == (True, old)
    assert moved["after"] == cluster.leader().node_id != old
    again = run("leader", **settings(cluster, not_on=old))
    assert (again["changed"], again["before"], again["after"]) == (
        False,
        moved["after"],
        moved["after"],
    )


def test_the_node_that_is_wanted_leads(cluster: Cluster) -> None:
    for target in (node.node_id for node in cluster.followers()):
        moved = run("leader", **settings(cluster, target=target))
        assert (moved["changed"], moved["after"]) == (True, target)
        assert cluster.leader().node_id == target
        assert moved["diff"]["after"] == f"leader: {target}\n"
    assert not run("leader", **settings(cluster, target=target))["changed"]


def test_check_mode_tells_and_hands_nothing_over(cluster: Cluster) -> None:
    leader, (follower, _) = cluster.roles()
    term = leader.status()["term"]
    told = run("leader", check=True, **settings(cluster, target=follower.node_id))
    assert (told["changed"], told["after"]) == (True, follower.node_id)
    told = run("leader", check=True, **settings(cluster, not_on=leader.node_id))
    assert (told["changed"], told["after"]) == (True, "")
    assert not run("leader", check=True, **settings(cluster, target=leader.node_id))["changed"]
    assert (cluster.leader(), leader.status()["term"]) == (leader, term)


@pytest.mark.parametrize("check", [False, True])
def test_a_node_that_is_no_voter_cannot_lead(cluster: Cluster, check: bool) -> None:
    said = failure("leader", check=check, **settings(cluster, target="node9"))
    assert "node9 cannot lead: by http://127.0.0.1:" in said
    assert "voters are node1, node2, node3. Add it first (pickbox.cluster.member)." in said


def test_a_wrong_token_is_said_at_once(cluster: Cluster) -> None:
    said = failure("leader", **settings(cluster, target="node1", token="a-wrong-one"))
    url = f"{cluster['node1'].admin}/api/v1/leader"
    assert f"{url} answers 401 unauthorized: This is not the admin token of the node." in said
    assert said.endswith("Give the admin token that the nodes were started with.")


def test_a_node_that_is_down_is_passed_over(cluster: Cluster) -> None:
    down, other = cluster.followers()
    down.kill()
    urls = [down.admin, other.admin]
    moved = run("leader", **settings(cluster, urls=urls, target=other.node_id))
    assert (moved["changed"], moved["after"]) == (True, other.node_id)


def test_nodes_that_are_all_down_are_named(cluster: Cluster) -> None:
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    said = failure("leader", **settings(cluster, urls=urls, target="node1", timeout=1))
    for url in urls:
        assert f"{url}/api/v1/leader does not answer ([Errno 111] Connection refused)" in said
    assert "See that the node runs, that this is the address of the right port, and " in said


def test_a_node_that_cannot_lead_in_time_is_told_in_the_words_of_the_cluster(
    cluster: Cluster,
) -> None:
    hangs = cluster.followers()[0]
    hangs.pause()
    said = failure("leader", **settings(cluster, target=hangs.node_id, timeout=8))
    assert f"Having {hangs.node_id} lead failed after" in said
    assert "/api/v1/leader answers 503 no-leader: " in said


def test_without_a_majority_there_is_no_leader_to_hand_over_from(cluster: Cluster) -> None:
    alone, *others = cluster
    for node in others:
        node.kill()
    wait_until(lambda: alone.status()["leader"] is None, "it knows that nobody leads")
    said = failure("leader", **settings(cluster, urls=[alone.admin], not_on="node1", timeout=1))
    assert f"{alone.admin} knows of no leader to hand over from" in said
