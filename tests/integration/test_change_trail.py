"""What became of one change, and where: the logs of all nodes tell, by its request id and path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from cluster import wait_until

if TYPE_CHECKING:
    from cluster import Cluster, Node

pytestmark = pytest.mark.cluster


def trail(cluster: Cluster, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Events about `path`, each with the node that logged it."""
    return [
        (node.node_id, event)
        for node in cluster
        for event in node.events()
        if event.get("path") == path and event["event"].startswith("change_")
    ]


def nodes_of(cluster: Cluster, path: str, event: str, **fields: object) -> list[str]:
    return sorted(
        node
        for node, found in trail(cluster, path)
        if found["event"] == event and fields.items() <= found.items()
    )


def all_of(cluster: Cluster) -> list[str]:
    return sorted(node.node_id for node in cluster)


@pytest.mark.parametrize("size", [5, 1 << 20], ids=["inline", "by content"])
def test_a_put_is_followed_from_its_answer_to_every_folder(cluster: Cluster, size: int) -> None:
    taking = list(cluster)[1]
    path = f"put of {size}"
    answer = taking.put(path, os.urandom(size))
    request_id, version = answer.headers["X-Request-Id"], answer.json()["version"]
    assert nodes_of(cluster, path, "change_proposed", request_id=request_id) == [taking.node_id]
    wait_until(
        lambda: nodes_of(cluster, path, "change_placed", version=version) == all_of(cluster),
        "every folder has it, once",
    )
    by_all = {"request_id": request_id, "version": version, "origin": taking.node_id}
    assert nodes_of(cluster, path, "change_applied", status="applied", **by_all) == all_of(cluster)
    assert len({event.get("index") for _, event in trail(cluster, path) if "index" in event}) == 1


def test_an_edit_in_a_folder_is_followed_to_the_other_folders(cluster: Cluster) -> None:
    edited, *others = cluster
    (edited.files / "edited").write_bytes(b"by a person")
    names = sorted(node.node_id for node in others)
    wait_until(lambda: nodes_of(cluster, "edited", "change_placed") == names, "the others have it")
    assert nodes_of(cluster, "edited", "change_proposed", change="put") == [edited.node_id]
    wait_until(  # a follower hears with the next append that it is committed
        lambda: nodes_of(cluster, "edited", "change_applied", status="applied") == all_of(cluster),
        "all have applied it",
    )


def test_a_delete_and_a_move_are_followed_as_well(cluster: Cluster) -> None:
    node: Node = next(iter(cluster))
    node.put("from here", b"content")
    body = {"source": "from here", "destination": "to there"}
    moved = node.request("POST", "/api/v1/move", json=body)
    assert moved.status == 200, moved.data
    assert nodes_of(cluster, "to there", "change_proposed", **{"from": "from here"})
    cluster.wait_settled()  # what is in no folder yet is not removed from it either
    assert node.request("DELETE", "/api/v1/files/to%20there").status == 200
    wait_until(
        lambda: nodes_of(cluster, "to there", "change_placed", version=0) == all_of(cluster),
        "it is gone everywhere",
    )
    assert nodes_of(cluster, "to there", "change_applied", change="delete") == all_of(cluster)
