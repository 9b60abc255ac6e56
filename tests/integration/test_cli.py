"""The command against real nodes: what its unit tests assume of a node is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cluster import TOKEN, Cluster, tree, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cli") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes: Cluster) -> Cluster:
    """The nodes, all of them up, with nothing in their folders."""
    for node in nodes:
        if node.process is not None and node.process.poll() is not None:
            node.start()
    nodes.wait_ready()
    wait_until(lambda: emptied(nodes), "all folders are empty", pause=0.2)
    return nodes


def emptied(nodes: Cluster) -> bool:
    """Remove all that is there; a change that the test before gave up may still be committed."""
    for name in {path.partition(b"/")[0] for path in run(nodes, "ls").stdout.splitlines()}:
        assert run(nodes, "rm", "-r", "--", name).returncode == 0
    return not any(tree(node.files) for node in nodes)


def run(
    cluster: Cluster, *arguments: str | bytes | Path, first: str = "node1", stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the command; node `first` is asked first, then the others."""
    nodes = sorted(cluster, key=lambda node: node.node_id != first)
    variables = {
        **{key: value for key, value in os.environ.items() if "PICKBOX" not in key},
        "PICKBOX_URL": ",".join(node.client for node in nodes),
        "PICKBOX_ADMIN_URL": nodes[0].admin,
        "PICKBOX_MONITOR_URL": nodes[0].monitor,
        "PICKBOX_ADMIN_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "pickbox", *arguments]
    return subprocess.run(
        command, env=variables, input=stdin, capture_output=True, timeout=120, check=False
    )


def test_a_file_goes_its_whole_way(cluster: Cluster, tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    (tmp_path / "local").write_bytes(content)
    (tmp_path / "local").chmod(0o640)
    stored = run(cluster, "put", "--json", "--if-absent", tmp_path / "local", b"d/\xff 1")
    assert stored.returncode == 0, stored.stderr
    assert run(cluster, "put", "--if-absent", tmp_path / "local", b"d/\xff 1").returncode == 4
    version = str(json.loads(stored.stdout)["version"])

    fetched = run(cluster, "get", "--linearizable", b"d/\xff 1", tmp_path / "back", first="node2")
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "back").read_bytes() == content
    there, here = (tmp_path / "local").stat(), (tmp_path / "back").stat()
    assert (there.st_mode, there.st_mtime_ns) == (here.st_mode, here.st_mtime_ns)

    changed = run(cluster, "put", "--if-version", version, "-", b"d/\xff 1", stdin=b"new")
    assert changed.returncode == 0, changed.stderr
    assert run(cluster, "mv", b"d/\xff 1", "moved").returncode == 0
    assert run(cluster, "rm", "d").returncode == 0
    assert run(cluster, "ls").stdout == b"moved\n"
    assert run(cluster, "get", "moved", "-").stdout == b"new"
    assert set(cluster.wait_settled()) == {b"moved"}
    assert run(cluster, "rm", b"d/\xff 1").returncode == 3


def test_a_directory_comes_back_as_it_went(cluster: Cluster, tmp_path: Path) -> None:
    inside = tmp_path / "in/sub"
    inside.mkdir(parents=True)
    for number in range(40):
        (inside / f"{number}").write_bytes(b"%d" % number)
    (tmp_path / "in/empty").mkdir()
    inside.chmod(0o750)
    stored = run(cluster, "put", "-r", tmp_path / "in", "top")
    assert stored.returncode == 0, stored.stderr
    fetched = run(cluster, "get", "-r", "top", tmp_path / "out", first="node3")
    assert fetched.returncode == 0, fetched.stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


def test_links_made_in_a_folder_are_fetched_as_links(cluster: Cluster, tmp_path: Path) -> None:
    folder = cluster["node1"].files
    (folder / "top").mkdir()
    os.symlink("../elsewhere", folder / "top/link")
    wait_until(lambda: b"top/link" in run(cluster, "ls", "top/").stdout, "the link is committed")
    assert run(cluster, "get", "top/link", "-").returncode == 4
    assert run(cluster, "get", "-r", "top", tmp_path / "out").returncode == 0
    assert os.readlink(tmp_path / "out/link") == "../elsewhere"


def test_no_write_fails_while_the_leader_is_killed(cluster: Cluster) -> None:
    leader = cluster.leader()

    def write(number: int) -> subprocess.CompletedProcess[bytes]:
        if number == 5:
            leader.kill()
        content = b"%d" % number
        return run(
            cluster, "put", "--if-absent", "-", f"{number}", first=leader.node_id, stdin=content
        )

    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(write, range(20)))
    assert [(r.returncode, r.stderr) for r in ran] == [(0, b"")] * 20
    assert sorted(map(int, cluster.wait_settled())) == list(range(20))


def test_without_a_majority_writes_end_in_5(cluster: Cluster) -> None:
    survivor, others = cluster.roles()
    for node in others:
        node.kill()
    alone = survivor.node_id
    refused = run(cluster, "--timeout", "3", "put", "-", "a", first=alone, stdin=b"x")
    assert refused.returncode == 5, refused.stderr
    named = re.search(rb"--idempotency-key (\S+)", refused.stderr)
    assert named is not None
    wait_until(lambda: run(cluster, "status", first=alone).returncode == 5, "status tells it")
    assert run(cluster, "doctor", "--probe", first=alone).returncode == 1
    # What was refused may still be under way: exactly this write, it is not made twice.
    for node in others:
        node.start()
    cluster.wait_ready()
    again = run(cluster, "put", "--idempotency-key", named[1], "-", "a", first=alone, stdin=b"x")
    assert again.returncode == 0, again.stderr
    assert set(cluster.wait_settled()) == {b"a"}


def test_operators_see_and_steer_the_cluster(cluster: Cluster) -> None:
    wait_until(lambda: names_and_moves_the_leader(cluster), "the leader is named and moved", 60)
    assert run(cluster, "leader", "--transfer-to", "nobody").returncode == 3
    members = json.loads(run(cluster, "members", "--json").stdout)["members"]
    assert [member["node_id"] for member in members] == ["node1", "node2", "node3"]
    assert json.loads(run(cluster, "deletes", "--json").stdout)["count"] == 0
    assert run(cluster, "members", "--token", "wrong").returncode == 6

    assert run(cluster, "drain").returncode == 0
    assert run(cluster, "doctor", "--probe").returncode == 1
    assert run(cluster, "put", "-", "a", stdin=b"by another node").returncode == 0
    assert run(cluster, "drain", "--undo").returncode == 0
    wait_well(cluster, "doctor")
    wait_well(cluster, "status")


def names_and_moves_the_leader(cluster: Cluster) -> bool:
    """An election, which comes when it likes, makes another the leader: then begin again."""
    leader, (other, _) = cluster.roles()
    named = run(cluster, "leader").stdout.decode().strip()
    moved = run(cluster, "leader", "--transfer-to", other.node_id).returncode
    return (named, moved) == (leader.node_id, 0) and cluster.leader() is other


def wait_well(cluster: Cluster, command: str) -> None:
    """Until `command` exits with 0: what a node says of the others is a moment old."""
    said: list[bytes] = []

    def is_well() -> bool:
        ran = run(cluster, command)
        said[:] = [ran.stdout, ran.stderr]
        return ran.returncode == 0

    try:
        wait_until(is_well, f"{command} finds all well")
    except AssertionError as error:
        raise AssertionError(f"{error}: {said}") from None


def test_a_path_that_leads_out_is_refused_by_the_node(cluster: Cluster) -> None:
    for path in ("../a", "a/../../b", "./a", "/a", ".pickbox/a", "a//b"):
        refused = run(cluster, "put", "-", path, stdin=b"x")
        assert refused.returncode == 1, path
        assert b"path" in refused.stderr
    assert run(cluster, "ls").stdout == b""
