"""The admin API: who may use it, and what it does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from http_node import TOKEN, Answer, Running, call, running

from pickbox.status import HeldDeletes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES = [
    ("GET", "/"),
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/members"),
    ("GET", "/api/v1/leader"),
    ("POST", "/api/v1/leader"),
    ("POST", "/api/v1/drain"),
    ("DELETE", "/api/v1/drain"),
    ("GET", "/api/v1/deletes"),
    ("POST", "/api/v1/deletes"),
    ("DELETE", "/api/v1/deletes"),
    ("POST", "/api/v1/snapshot"),
    ("GET", "/api/v1/upgrade"),
    ("POST", "/api/v1/upgrade"),
]
MEMBER_CHANGES = [
    ("POST", "/api/v1/members"),
    ("POST", "/api/v1/members/node1/promote"),
    ("DELETE", "/api/v1/members/node1"),
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_nothing_is_told_or_done_without_the_token(node: Running) -> None:
    for method, target in ROUTES + MEMBER_CHANGES:
        for headers in (
            {},
            {"Authorization": "Bearer wrong-token-of-enough-length"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer \xff"},
        ):
            refused = call(node.settings.admin_port, method, target, headers=headers)
            assert refused.status == 401, (method, target, headers)
            assert refused.problem["type"] == "urn:pickbox:problem:unauthorized"
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm="pickbox"'
            assert TOKEN.encode() not in refused.content
    assert not node.control.draining


def test_every_route_answers_with_the_token(node: Running) -> None:
    assert [node.admin(method, target).status for method, target in ROUTES] == [200] * len(ROUTES)


def test_the_scheme_is_taken_in_any_case(node: Running) -> None:
    assert node.admin("GET", "/", headers={"Authorization": f"bearer {TOKEN}"}).status == 200


def test_status_tells_node_health_and_cluster(node: Running) -> None:
    status = node.admin("GET", "/api/v1/status").json
    assert status["node"]["node_id"] == "node1"
    assert status["health"]["ready"] is True
    assert status["cluster"]["quorum"] == 1


JSON = {"Content-Type": "application/json"}
NODE2 = {"node_id": "node2", "address": "10.0.0.2:8001"}


def add(node: Running, **body: object) -> Answer:
    return node.admin("POST", "/api/v1/members", body=json.dumps(body), headers=JSON)


def test_members_are_listed_with_their_addresses(node: Running) -> None:
    assert node.admin("GET", "/api/v1/members").json == {
        "version": 1,
        "members": [
            {
                "node_id": "node1",
                "address": f"127.0.0.1:{node.settings.port}",
                "role": "voter",
            }
        ],
    }


def test_a_node_is_added_as_a_learner_and_removed_again(node: Running) -> None:
    added = add(node, **NODE2)
    assert (added.status, added.json["version"]) == (200, 2)
    assert added.json["members"][1] == {**NODE2, "role": "learner"}
    early = node.admin("POST", "/api/v1/members/node2/promote")
    assert (early.status, early.problem["type"]) == (409, "urn:pickbox:problem:change-too-early")
    assert "wait until it has caught up" in early.problem["detail"]
    gone = node.admin("DELETE", "/api/v1/members/node2")
    assert [member["node_id"] for member in gone.json["members"]] == ["node1"]
    assert node.admin("DELETE", "/api/v1/members/node2").status == 404


def test_only_who_says_so_removes_a_node_with_what_only_it_has(node: Running) -> None:
    add(node, **NODE2)
    assert node.admin("DELETE", "/api/v1/members/node2?force=yes").status == 400
    assert node.admin("DELETE", "/api/v1/members/node2?force=true").status == 200
    assert node.members.forced


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"node_id": "Node 2", "address": "10.0.0.2:8001"}, "node_id"),
        ({"address": "10.0.0.2:8001"}, "node_id"),
        ({"node_id": "node2"}, "address"),
        ({"node_id": "node2", "address": "10.0.0.2"}, "address"),
        ({"node_id": "node2", "address": "10.0.0.2:0"}, "address"),
        ({**NODE2, "vote": True}, "vote"),
    ],
)
def test_a_member_that_cannot_be_is_named_by_its_field(
    node: Running, body: dict[str, object], field: str
) -> None:
    refused = add(node, **body)
    assert (refused.status, refused.problem["field"]) == (400, field)
    assert len(node.members.members().nodes) == 1


@pytest.mark.parametrize(
    ("body", "leader"), [({"target": "node3"}, "node3"), ({"target": None}, "node2"), ({}, "node2")]
)
def test_leadership_is_handed_over(node: Running, body: dict[str, object], leader: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = node.admin("POST", "/api/v1/leader", body=json.dumps(body), headers=headers)
    assert (answer.status, answer.json) == (200, {"leader": leader})
    assert node.admin("GET", "/api/v1/leader").json == {"leader": leader, "term": 3}


def test_leadership_goes_to_members_only(node: Running) -> None:
    headers = {"Content-Type": "application/json"}
    unknown = node.admin("POST", "/api/v1/leader", body='{"target": "node9"}', headers=headers)
    assert (unknown.status, unknown.problem["field"]) == (404, "target")
    number = node.admin("POST", "/api/v1/leader", body='{"target": 9}', headers=headers)
    assert (number.status, number.problem["field"]) == (400, "target")


def test_without_a_leader_a_transfer_says_when_to_try_again(node: Running) -> None:
    node.control.leader = None
    refused = node.admin("POST", "/api/v1/leader")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert refused.problem["type"] == "urn:pickbox:problem:no-leader"


def test_a_drained_node_is_not_ready_until_it_is_undrained(node: Running) -> None:
    assert node.admin("POST", "/api/v1/drain").json == {"draining": True}
    assert node.monitor("GET", "/ready").status == 503
    assert node.admin("DELETE", "/api/v1/drain").json == {"draining": False}
    assert node.monitor("GET", "/ready").status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_held_deletes_are_shown_and_decided(node: Running, method: str) -> None:
    node.control.held = HeldDeletes(7, 10, ("a", "b"))
    shown = node.admin("GET", "/api/v1/deletes").json
    assert shown == {"count": 7, "known": 10, "examples": ["a", "b"]}
    assert node.admin(method, "/api/v1/deletes").json == {"count": 7}
    assert node.admin("GET", "/api/v1/deletes").json["count"] == 0


def test_a_snapshot_says_what_it_covers(node: Running) -> None:
    assert node.admin("POST", "/api/v1/snapshot").json == {"index": 41}


def test_files_are_not_on_the_admin_port(node: Running) -> None:
    assert node.admin("GET", "/api/v1/files/x").status == 404
    assert call(node.settings.admin_port, "GET", "/api/v1/files/x").status == 404


def test_an_upgrade_is_shown_and_finished(node: Running) -> None:
    shown = node.admin("GET", "/api/v1/upgrade").json
    assert shown == {
        "level": 1,
        "target": 2,
        "nodes": [{"node_id": "node1", "version": "0.2.0", "understands": 2, "error": ""}],
        "finished": False,
    }
    for _ in range(2):
        finished = node.admin("POST", "/api/v1/upgrade")
        assert (finished.status, finished.json["level"], finished.json["finished"]) == (
            200,
            2,
            True,
        )


def test_an_upgrade_that_cannot_be_finished_says_who_keeps_it(node: Running) -> None:
    node.upgrade.lagging = "node2 runs release 0.1.0: upgrade it"
    refused = node.admin("POST", "/api/v1/upgrade")
    assert (refused.status, refused.problem["type"]) == (409, "urn:pickbox:problem:upgrade-refused")
    assert refused.problem["detail"].endswith(node.upgrade.lagging)
