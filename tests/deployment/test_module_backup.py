"""A backup point is made on a node of a real cluster once, listed, removed; or it is said why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cluster import TOKEN
from module_runs import failure, run

if TYPE_CHECKING:
    from cluster import Cluster, Node

pytestmark = pytest.mark.cluster


def settings(node: Node, **changes: Any) -> dict[str, Any]:
    return {"url": node.admin, "token": TOKEN, **changes}


def test_a_point_is_made_once_listed_and_removed_once(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    assert node.put("docs/a", b"content").status == 201
    told = run("backup", check=True, **settings(node, name="first"))
    assert (told["changed"], told["point"], told["diff"]["after"]) == (True, {}, "state: present\n")
    assert run("backup", **settings(node, state="listed"))["backups"] == []

    made = run("backup", **settings(node, name="first"))
    assert (made["changed"], made["point"]["files"]) == (True, 1)
    assert made["point"]["index"] > 0
    assert (Path(made["directory"]) / "files/docs/a").read_bytes() == b"content"
    again = run("backup", **settings(node, name="first"))
    assert (again["changed"], again["point"]) == (False, made["point"])
    listed = run("backup", **settings(node, state="listed"))
    assert (listed["changed"], listed["backups"]) == (False, [made["point"]])
    assert listed["directory"] == str(Path(made["directory"]).parent)

    gone = settings(node, name="first", state="absent")
    assert run("backup", check=True, **gone)["changed"]
    assert Path(made["directory"]).exists()
    removed = run("backup", **gone)
    assert (removed["changed"], removed["backups"], removed["point"]) == (True, [], {})
    assert not Path(made["directory"]).exists()
    assert not run("backup", **gone)["changed"]


def test_what_cannot_be_is_said_with_what_the_node_answered(cluster: Cluster) -> None:
    node = cluster["node1"]
    said = failure("backup", **settings(node, name="../x"))
    assert "answers 400 bad-request: name must be 1 to 64 letters" in said
    said = failure("backup", **settings(node, name="x", token="a-wrong-one"))
    assert said.startswith("Making the point x present failed after ")
    assert "answers 401 unauthorized" in said
    assert "name" in failure("backup", **settings(node))
