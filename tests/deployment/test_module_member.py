"""Nodes join and leave a real cluster by the module, once, or it is said why not."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from cluster import TOKEN, wait_until
from module_runs import failure, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster, Node

pytestmark = pytest.mark.cluster

SETTINGS = {"election_timeout": "5"}  # who leads is compared around runs that take a second
VOTERS = ("node1", "node2", "node3")
NUMBERS = itertools.count(4)


@pytest.fixture
def newcomer(cluster: Cluster) -> Iterator[Node]:
    """A node that waits to be started and added; gone again afterwards."""
    node = cluster.join(f"node{next(NUMBERS)}")
    yield node
    del cluster.nodes[node.node_id]
    if node.running():
        node.kill()
    cluster.heal()
    wait_until(lambda: has_gone(cluster, node.node_id), f"{node.node_id} is no member", 60)


def settings(cluster: Cluster, node_id: str, **changes: Any) -> dict[str, Any]:
    urls = [cluster[name].admin for name in VOTERS]
    return {"urls": urls, "token": TOKEN, "node_id": node_id, **changes}


def joining(cluster: Cluster, node: Node, **changes: Any) -> dict[str, Any]:
    return settings(cluster, node.node_id, address=f"127.0.0.1:{node.ports[0]}", **changes)


def roles(cluster: Cluster) -> dict[str, str]:
    """The members as the leader of those that run lists them."""
    running = [cluster[name] for name in VOTERS if cluster[name].running()]
    listed = cluster.leader_of(running).admin_request("GET", "/api/v1/members").json()
    return {member["node_id"]: member["role"] for member in listed["members"]}


def has_gone(cluster: Cluster, node_id: str) -> bool:
    """Whether a node is no member; one that still is has its removal asked for."""
    if node_id not in roles(cluster):
        return True
    with contextlib.suppress(urllib3.exceptions.HTTPError):  # asked again, it goes on
        cluster.leader().admin_request("DELETE", f"/api/v1/members/{node_id}?force=true")
    return False


def told(answer: dict[str, Any]) -> dict[str, str]:
    """The members that a module answers with."""
    return {member["node_id"]: member["role"] for member in answer["members"]}


def test_a_node_becomes_a_learner_and_a_voter_with_all_content_and_goes(
    cluster: Cluster, newcomer: Node
) -> None:
    content = os.urandom(1 << 20)
    assert cluster["node1"].put("before", content).status == 201
    newcomer.start()
    name = newcomer.node_id

    learner = run("member", **joining(cluster, newcomer, state="learner"))
    assert learner["changed"]
    assert told(learner) == roles(cluster) == {**dict.fromkeys(VOTERS, "voter"), name: "learner"}
    assert not run("member", **joining(cluster, newcomer, state="learner"))["changed"]

    voter = run("member", **joining(cluster, newcomer))
    assert voter["changed"]
    assert told(voter) == roles(cluster) == dict.fromkeys((*VOTERS, name), "voter")
    assert voter["version"] > learner["version"]
    assert newcomer.get("before").data == content
    assert not run("member", **joining(cluster, newcomer))["changed"]

    gone = run("member", **settings(cluster, name, state="absent"))
    assert gone["changed"]
    assert told(gone) == roles(cluster) == dict.fromkeys(VOTERS, "voter")
    assert not run("member", **settings(cluster, name, state="absent"))["changed"]


def test_a_node_that_leads_hands_over_and_goes(cluster: Cluster, newcomer: Node) -> None:
    newcomer.start()
    run("member", **joining(cluster, newcomer))
    asked = {"urls": [cluster["node1"].admin], "token": TOKEN}
    assert run("leader", **asked, target=newcomer.node_id)["after"] == newcomer.node_id
    assert run("member", **settings(cluster, newcomer.node_id, state="absent"))["changed"]
    assert newcomer.node_id not in roles(cluster)


def test_check_mode_shows_the_members_and_changes_none(cluster: Cluster, newcomer: Node) -> None:
    before = roles(cluster)
    would = run("member", check=True, **joining(cluster, newcomer))
    address = f"127.0.0.1:{newcomer.ports[0]}"
    assert would["changed"]
    assert told(would) == {**before, newcomer.node_id: "voter"}
    assert f"{newcomer.node_id} voter at {address}\n" in would["diff"]["after"]
    assert newcomer.node_id not in would["diff"]["before"]

    would = run("member", check=True, **settings(cluster, "node2", state="absent"))
    assert would["changed"]
    assert told(would) == {"node1": "voter", "node3": "voter"}
    assert not run("member", check=True, **settings(cluster, "node9", state="absent"))["changed"]
    assert roles(cluster) == before


@pytest.mark.parametrize("check", [False, True])
def test_what_no_change_leads_to_is_refused(cluster: Cluster, check: bool) -> None:
    port = cluster["node2"].ports[0]
    moved = settings(cluster, "node2", address="127.0.0.1:1")
    said = failure("member", check=check, **moved)
    assert f"node2 is a member at 127.0.0.1:{port}, not at 127.0.0.1:1: remove it first" in said
    learner = settings(cluster, "node2", address=f"127.0.0.1:{port}", state="learner")
    said = failure("member", check=check, **learner)
    assert "node2 is a voter, which is not made a learner again: remove it first" in said


def test_a_node_that_is_to_join_needs_an_address(cluster: Cluster) -> None:
    assert "missing: address" in failure("member", **settings(cluster, "node9"))


def test_a_wrong_address_is_told_in_the_words_of_the_cluster(cluster: Cluster) -> None:
    said = failure("member", **settings(cluster, "node9", address="nowhere"))
    assert "/api/v1/members answers 400 bad-request: address: 'nowhere' is not host:port" in said


def test_a_node_that_does_not_run_is_waited_for_and_joins_in_a_second_run(
    cluster: Cluster, newcomer: Node
) -> None:
    said = failure("member", **joining(cluster, newcomer, timeout=1))
    name = newcomer.node_id
    assert said.startswith(f"Making {name} a voter failed after ")
    assert f"/api/v1/members/{name}/promote answers 409 change-too-early: " in said
    assert said.endswith("Run it again to go on waiting, or give it a longer timeout.")
    newcomer.start()
    assert run("member", **joining(cluster, newcomer))["changed"]
    assert roles(cluster)[name] == "voter"


def test_a_node_goes_only_when_the_others_have_all_content_or_by_force(
    cluster: Cluster, newcomer: Node
) -> None:
    newcomer.start()
    run("member", **joining(cluster, newcomer, state="learner"))
    asked = cluster.leader()
    others = [node for node in cluster if node not in (asked, newcomer)]
    for node in others:
        node.kill()
    leaving = settings(cluster, newcomer.node_id, urls=[asked.admin], state="absent", timeout=10)
    said = failure("member", **leaving)
    assert f"Removing {newcomer.node_id} failed after " in said
    assert f"answers 409 change-too-early: {newcomer.node_id} is counted no more, and goes" in said
    assert "does not answer" in said
    for node in others:
        node.start()
    cluster.wait_ready([asked, *others])
    assert run("member", **{**leaving, "force": True, "timeout": 30})["changed"]
    assert newcomer.node_id not in roles(cluster)


def test_a_removal_that_leaves_no_majority_is_refused_at_once(cluster: Cluster) -> None:
    follower, other = cluster.followers()
    other.kill()
    said = failure("member", **settings(cluster, follower.node_id, state="absent"))
    assert "answers 409 change-refused: without" in said
    assert "no majority. Start the others first" in said
    assert roles(cluster)[follower.node_id] == "voter"


def test_a_wrong_token_is_said(cluster: Cluster) -> None:
    said = failure("member", **settings(cluster, "node9", state="absent", token="a-wrong-one"))
    assert f"{cluster['node1'].admin}/api/v1/members answers 401 unauthorized: " in said


def test_a_node_that_is_down_is_passed_over(cluster: Cluster, newcomer: Node) -> None:
    newcomer.start()
    cluster["node1"].kill()
    wait_until(lambda: cluster.leader_of([cluster["node2"], cluster["node3"]]), "another leads")
    assert run("member", **joining(cluster, newcomer, state="learner"))["changed"]


def test_nodes_that_are_all_down_are_named() -> None:
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    said = failure("member", urls=urls, token=TOKEN, node_id="node9", state="absent", timeout=1)
    assert all(f"{url}/api/v1/members does not answer (" in said for url in urls)
