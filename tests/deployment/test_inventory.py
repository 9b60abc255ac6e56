"""The inventory plugin believes a node that sees a majority, and tells what others answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleParserError
from ansible_collections.pickbox.cluster.plugins.inventory import pickbox as plugin
from control_node import ask_inventory
from test_cluster_info import answering

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "http://127.0.0.1:1"


def node(name: str, **changes: Any) -> dict[str, Any]:
    return {"node_id": name, "reachable": True, "role": "follower", **changes}


def view(*, quorum: bool) -> dict[str, Any]:
    return {"nodes": [node("node1")], "has_quorum": quorum, "leader": None}


def test_a_file_of_another_name_is_left_alone(tmp_path: Path) -> None:
    told = ask_inventory(tmp_path, name="hosts.yml", urls=[NOBODY])
    assert told.returncode != 0
    assert "No node says" not in told.stderr


def test_without_an_answer_every_url_is_named_with_what_came_instead() -> None:
    with (
        answering(503, {"detail": "It stops."}) as url,
        answering(200, []) as other,
        pytest.raises(AnsibleParserError) as caught,
    ):
        plugin.view([NOBODY, url, other], timeout=5)
    said = str(caught.value)
    assert f"{NOBODY}: " in said
    assert "refused" in said
    assert f"{url}: it answers 503: It stops" in said
    assert f"{other}: it answers, but not as a node does" in said


def test_a_node_that_sees_a_majority_is_believed_before_one_that_does_not() -> None:
    with answering(200, view(quorum=False)) as cut_off, answering(200, view(quorum=True)) as well:
        assert plugin.view([cut_off, well], timeout=5)["has_quorum"]
        assert not plugin.view([cut_off, NOBODY], timeout=5)["has_quorum"]


def test_admin_urls_without_a_token_are_refused() -> None:
    with pytest.raises(AnsibleParserError, match="PICKBOX_ADMIN_TOKEN"):
        plugin.members([NOBODY], None, timeout=5)


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({}, "followers"),
        ({"node_id": "node1"}, "leader"),
        ({"node_id": "node9"}, "learners"),
        ({"node_id": "node1", "reachable": False}, "unreachable"),
        ({"role": "candidate"}, "followers"),
    ],
)
def test_a_member_is_in_one_group_of_its_role(changes: dict[str, Any], group: str) -> None:
    found = plugin.group_of(node("node2") | changes, "node1", {"node9"})
    assert found == f"pickbox_{group}"


def test_of_a_node_that_never_answered_only_the_log_is_known() -> None:
    known = plugin.variables_of(node("node1"), "pickbox", "[fd00::1]:8001")
    assert (known["ansible_host"], known["pickbox_port"]) == ("fd00::1", 8001)
    assert "pickbox_admin_port" not in known
    assert "ansible_host" not in plugin.variables_of(node("node1"), "pickbox", "")
