"""Nothing is lost where two nodes change the same thing: both contents are everywhere."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

import pytest
from cluster import Cluster, Node, wait_until

pytestmark = pytest.mark.cluster

COPY = re.compile(rb".*\.sync-conflict-\d{8}-\d{6}-(node[123])(~\d+)?(\.[a-z]+)?")
"""Syncthing's convention: name.sync-conflict-<YYYYMMDD>-<HHMMSS>-<node>.ext."""


@pytest.fixture
def directory(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The name of a directory of the test's own; it is on every node."""
    name: str = request.node.name[:60]
    (cluster["node1"].files / name).mkdir()
    wait_until(lambda: all((node.files / name).is_dir() for node in cluster), "it is everywhere")
    return name


def stopped(node: Node) -> Node:
    """Stop a node in an orderly way."""
    assert node.stop() == 0
    return node


def copies(node: Node, directory: str) -> list[bytes]:
    """Names of the conflict copies in a directory."""
    names = os.listdir(os.fsencode(node.files / directory))
    return sorted(name for name in names if b".sync-conflict-" in name)


def contents(node: Node, directory: str) -> list[bytes]:
    """The contents of all files in a directory, sorted."""
    found: list[bytes] = []
    for path in (node.files / directory).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it has gone since: the next look tells
            if path.is_file():
                found.append(path.read_bytes())
    return sorted(found)


def write(nodes: Cluster, node: str, path: str, content: bytes) -> None:
    (nodes[node].files / path).write_bytes(content)


def test_two_edits_of_one_file_are_both_kept(cluster: Cluster, directory: str) -> None:
    path = f"{directory}/report.txt"
    write(cluster, "node1", path, b"base")
    cluster.wait_settled()
    stopped(cluster["node3"])
    write(cluster, "node3", path, b"edited while it was down")
    write(cluster, "node1", path, b"edited meanwhile")
    wait_until(lambda: cluster["node2"].get(path).data == b"edited meanwhile", "it is committed")
    cluster.heal()
    wait_until(lambda: copies(cluster["node1"], directory), "a conflict copy is made")
    cluster.wait_settled()
    for node in cluster:
        assert (node.files / path).read_bytes() == b"edited meanwhile"
        (name,) = copies(node, directory)
        matched = COPY.fullmatch(name)
        assert matched is not None
        assert matched[1] == b"node3"
        assert name.startswith(b"report.sync-conflict-")
        assert name.endswith(b".txt")
        assert contents(node, directory) == [b"edited meanwhile", b"edited while it was down"]


def test_equal_edits_are_no_conflict(cluster: Cluster, directory: str) -> None:
    path = f"{directory}/same"
    write(cluster, "node1", path, b"base")
    cluster.wait_settled()
    stopped(cluster["node2"])
    write(cluster, "node2", path, b"the same edit")
    write(cluster, "node1", path, b"the same edit")
    wait_until(lambda: cluster["node3"].get(path).data == b"the same edit", "it is committed")
    cluster.heal()
    cluster.wait_settled()
    for node in cluster:
        assert copies(node, directory) == []
        assert contents(node, directory) == [b"the same edit"]


def test_an_edit_beats_a_delete_that_did_not_know_of_it(cluster: Cluster, directory: str) -> None:
    path = f"{directory}/kept"
    write(cluster, "node1", path, b"base")
    cluster.wait_settled()
    stopped(cluster["node3"])
    write(cluster, "node3", path, b"edited while it was down")
    (cluster["node1"].files / path).unlink()
    wait_until(lambda: cluster["node2"].get(path).status == 404, "the delete is committed")
    cluster.heal()
    wait_until(lambda: contents(cluster["node1"], directory) != [], "the edit is back")
    cluster.wait_settled()
    for node in cluster:
        assert (node.files / path).read_bytes() == b"edited while it was down"
        assert copies(node, directory) == []


def test_a_delete_does_not_beat_an_edit_that_it_did_not_know_of(
    cluster: Cluster, directory: str
) -> None:
    path = f"{directory}/kept"
    write(cluster, "node1", path, b"base")
    cluster.wait_settled()
    stopped(cluster["node3"])
    (cluster["node3"].files / path).unlink()
    write(cluster, "node1", path, b"edited meanwhile")
    wait_until(lambda: cluster["node2"].get(path).data == b"edited meanwhile", "it is committed")
    cluster.heal()
    wait_until((cluster["node3"].files / path).exists, "it is back on node 3")
    cluster.wait_settled()
    for node in cluster:
        assert contents(node, directory) == [b"edited meanwhile"]


def test_a_file_that_was_deleted_while_a_node_was_down_stays_deleted(
    cluster: Cluster, directory: str
) -> None:
    for name in ("file", "sub/deep/file"):
        path = cluster["node1"].files / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    cluster.wait_settled()
    stopped(cluster["node3"])
    shutil.rmtree(cluster["node1"].files / directory / "sub")
    (cluster["node1"].files / directory / "file").unlink()
    wait_until(lambda: not list((cluster["node2"].files / directory).iterdir()), "all is deleted")
    cluster.heal()
    wait_until(lambda: not list((cluster["node3"].files / directory).iterdir()), "on node 3 too")
    cluster.wait_settled()
    for node in cluster:
        assert not list((node.files / directory).iterdir())


def test_a_file_that_only_came_back_with_its_old_bytes_is_new_again(
    cluster: Cluster, directory: str
) -> None:
    """A restore on the node itself is an edit, not an echo."""
    path = cluster["node2"].files / directory / "file"
    path.write_bytes(b"bytes")
    cluster.wait_settled()
    path.unlink()
    wait_until(lambda: contents(cluster["node1"], directory) == [], "it is deleted")
    path.write_bytes(b"bytes")
    wait_until(lambda: contents(cluster["node3"], directory) == [b"bytes"], "it is there again")
    cluster.wait_settled()


def test_new_files_of_one_name_are_both_kept(cluster: Cluster, directory: str) -> None:
    stopped(cluster["node2"])
    write(cluster, "node2", f"{directory}/new", b"from node 2")
    write(cluster, "node1", f"{directory}/new", b"from node 1")
    wait_until(lambda: cluster["node3"].get(f"{directory}/new").status == 200, "it is committed")
    cluster.heal()
    wait_until(lambda: copies(cluster["node1"], directory), "a conflict copy is made")
    cluster.wait_settled()
    for node in cluster:
        assert (node.files / directory / "new").read_bytes() == b"from node 1"
        assert contents(node, directory) == [b"from node 1", b"from node 2"]


def test_a_large_file_in_conflict_is_kept_too(cluster: Cluster, directory: str) -> None:
    path = f"{directory}/large.bin"
    write(cluster, "node1", path, b"b" * (2 << 20))
    cluster.wait_settled()
    stopped(cluster["node1"])
    write(cluster, "node1", path, b"1" * (3 << 20))
    write(cluster, "node2", path, b"2" * (3 << 20))
    wait_until(lambda: cluster["node3"].get(path).data[:1] == b"2", "it is committed")
    cluster.heal()
    wait_until(lambda: copies(cluster["node3"], directory), "a conflict copy is made")
    cluster.wait_settled()
    for node in cluster:
        assert contents(node, directory) == [b"1" * (3 << 20), b"2" * (3 << 20)]


def test_a_file_and_a_directory_of_one_name_are_both_kept(cluster: Cluster, directory: str) -> None:
    stopped(cluster["node3"])
    write(cluster, "node3", f"{directory}/thing", b"a file")
    (cluster["node1"].files / directory / "thing").mkdir()
    write(cluster, "node1", f"{directory}/thing/inside", b"inside")
    wait_until(
        lambda: cluster["node2"].get(f"{directory}/thing/inside").status == 200, "it is committed"
    )
    cluster.heal()
    wait_until(lambda: len(contents(cluster["node1"], directory)) == 2, "both are there")
    cluster.wait_settled()
    for node in cluster:
        assert (node.files / directory / "thing/inside").read_bytes() == b"inside"
        assert contents(node, directory) == [b"a file", b"inside"]


def test_a_node_that_was_down_takes_the_changes_of_the_others_and_gives_its_own(
    cluster: Cluster, directory: str
) -> None:
    """Of 300 files that changed elsewhere, 10 changed here too, 5 of them in the same way."""
    for number in range(300):
        write(cluster, "node1", f"{directory}/{number}.txt", b"base %d" % number)
    cluster.wait_settled()
    stopped(cluster["node3"])
    for number in range(300):
        write(cluster, "node1", f"{directory}/{number}.txt", b"elsewhere %d" % number)
    for number in range(10):
        content = b"here %d" % number if number < 5 else b"elsewhere %d" % number
        write(cluster, "node3", f"{directory}/{number}.txt", content)
    wait_until(
        lambda: (
            contents(cluster["node2"], directory)
            == sorted(b"elsewhere %d" % number for number in range(300))
        ),
        "node 2 has all changes",
        60,
    )
    cluster.heal()
    wait_until(lambda: len(copies(cluster["node1"], directory)) == 5, "5 conflict copies", 60)
    cluster.wait_settled()
    expected = [b"elsewhere %d" % n for n in range(300)] + [b"here %d" % n for n in range(5)]
    for node in cluster:
        assert contents(node, directory) == sorted(expected)
        assert len(copies(node, directory)) == 5


def test_changes_made_while_all_nodes_were_down_are_taken_in(
    cluster: Cluster, directory: str
) -> None:
    """On the version that each node had: no conflict where only one node changed a file."""
    for name in ("changed-1", "changed-2", "deleted", "moved", "both"):
        write(cluster, "node1", f"{directory}/{name}", b"base of " + name.encode())
    cluster.wait_settled()
    for node in cluster:
        stopped(node)
    write(cluster, "node1", f"{directory}/changed-1", b"changed on node 1")
    write(cluster, "node2", f"{directory}/changed-2", b"changed on node 2")
    write(cluster, "node3", f"{directory}/new", b"new on node 3")
    (cluster["node2"].files / directory / "deleted").unlink()
    moved = cluster["node3"].files / directory / "moved"
    moved.rename(moved.with_name("moved-away"))
    write(cluster, "node1", f"{directory}/both", b"both: node 1")
    write(cluster, "node2", f"{directory}/both", b"both: node 2")
    cluster.heal()
    expected = {
        b"changed on node 1",
        b"changed on node 2",
        b"new on node 3",
        b"base of moved",
        b"both: node 1",
        b"both: node 2",
    }
    wait_until(
        lambda: all(set(contents(node, directory)) == expected for node in cluster),
        "all changes are everywhere",
    )
    cluster.wait_settled()
    for node in cluster:
        assert len(contents(node, directory)) == len(expected)
        assert len(copies(node, directory)) == 1
        assert (node.files / directory / "moved-away").exists()


def test_editing_one_file_on_two_nodes_again_and_again_ends_with_both_last_edits(
    cluster: Cluster, directory: str
) -> None:
    path = f"{directory}/hot.txt"
    write(cluster, "node1", path, b"base")
    cluster.wait_settled()
    for number in range(20):
        write(cluster, "node1", path, b"node 1, edit %d" % number)
        write(cluster, "node2", path, b"node 2, edit %d" % number)
    wait_until(
        lambda: (
            {b"node 1, edit 19", b"node 2, edit 19"} & set(contents(cluster["node3"], directory))
        ),
        "a last edit is on node 3",
    )
    cluster.wait_settled()
    for node in cluster:
        assert {b"node 1, edit 19", b"node 2, edit 19"} <= set(contents(node, directory))
        # Conflict copies are never in conflict themselves.
        assert not [name for name in copies(node, directory) if name.count(b"sync-conflict") > 1]


def test_a_conflict_copy_can_be_deleted_and_stays_deleted(cluster: Cluster, directory: str) -> None:
    path = f"{directory}/c.txt"
    stopped(cluster["node2"])
    write(cluster, "node2", path, b"2")
    write(cluster, "node1", path, b"1")
    wait_until(lambda: cluster["node3"].get(path).status == 200, "it is committed")
    cluster.heal()
    wait_until(lambda: copies(cluster["node1"], directory), "a conflict copy is made")
    cluster.wait_settled()
    (name,) = copies(cluster["node1"], directory)
    os.unlink(os.path.join(os.fsencode(cluster["node1"].files / directory), name))
    wait_until(lambda: not copies(cluster["node2"], directory), "it is deleted")
    cluster.wait_settled()
    assert contents(cluster["node3"], directory) == [b"1"]
