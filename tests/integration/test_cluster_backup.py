"""Backups of a real cluster through restic: consistent under edits, small again, all restored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from cluster import TOKEN, Cluster, Node, tree, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

FILES = 90
LARGE = 200_000
"""Bytes: above the inline limit, so that content moves between the nodes."""


class Operator:
    """Runs ``pickbox`` on the machine of a node, with a restic repository of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password = directory / "password"
        self.password.write_text("a password for tests\n")

    def run(self, node: Node, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PICKBOX", "RESTIC"))},
            "PICKBOX_ADMIN_URL": node.admin,
            "PICKBOX_ADMIN_TOKEN": TOKEN,
            "RESTIC_REPOSITORY": str(self.directory / "repository"),
            "RESTIC_PASSWORD_FILE": str(self.password),
            "RESTIC_CACHE_DIR": str(self.directory / "cache"),
        }
        command = [sys.executable, "-m", "pickbox", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, timeout=120, check=False
        )

    def told(self, node: Node, *arguments: str) -> Any:
        done = self.run(node, *arguments, "--json")
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("operator"))


@pytest.fixture
def empty_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "empty") as cluster:
        yield cluster


def fill(node: Node) -> None:
    """Have all kinds of things in the folder of `node`."""
    folder = node.files
    for number in range(FILES):
        path = folder / f"docs/{number % 7}/{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(LARGE if number % 3 else 100 + number))
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + number))
    (folder / "empty/inside").mkdir(parents=True)
    (folder / "none").write_bytes(b"")
    (folder / "link").symlink_to("docs/../nowhere")
    (folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "run.sh").chmod(0o751)
    (folder / "docs/6").chmod(0o711)
    (folder / os.fsdecode(b"odd\xff [*]?")).write_bytes(b"odd name")


def entries_in(point: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (point / "entries.jsonl").read_bytes().splitlines()]


def content_in(point: Path, entry: dict[str, Any]) -> bytes:
    path = b64decode(entry["path_b64"]) if "path_b64" in entry else entry["path"].encode()
    with open(os.path.join(os.fsencode(point), b"files", path), "rb") as file:
        return file.read()


class Editors:
    """People who write files of each node's folder in place, all the time.

    What the cluster has committed of them is noted from the catalogs of all nodes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.committed: dict[tuple[str, int], str] = {}
        self._cluster = cluster
        self._stopping = threading.Event()
        self._threads = [
            *(
                threading.Thread(target=self._edit, args=(node, n))
                for n, node in enumerate(cluster)
            ),
            threading.Thread(target=self._note),
        ]

    def __enter__(self) -> Editors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _edit(self, node: Node, mine: int) -> None:
        """Overwrite files with as many other bytes: the old content is nowhere on this node."""
        paths = [node.files / f"docs/{n % 7}/{n}.bin" for n in range(FILES) if n % 3 == mine]
        while not self._stopping.is_set():
            for path in paths:
                with path.open("r+b") as file:
                    file.write(os.urandom(path.stat().st_size))
                # A version is to live for long enough to be noted, however slow the machine is.
                if self._stopping.wait(0.05):
                    return

    def _note(self) -> None:
        while not self._stopping.is_set():
            for entry in self._cluster["node1"].listing().values():
                self.committed[entry["path"], entry["version"]] = entry["digest"]


def test_a_backup_under_edits_has_only_what_was_committed_at_one_index(
    cluster: Cluster, operator: Operator
) -> None:
    fill(cluster["node1"])
    cluster.wait_settled()
    node = cluster.followers()[0]
    with Editors(cluster) as editors:
        wait_until(lambda: node.status()["applied_index"] > 100, "the edits are committed")
        for round_ in range(2):
            made = operator.told(node, "backup", "create", f"round-{round_}")
            entries = entries_in(node.directory / f"backups/round-{round_}")
            assert len(entries) == made["files"] + made["directories"] + made["symlinks"]
            assert max(entry["version"] for entry in entries) <= made["version"]
            for entry in entries:
                if entry["kind"] == "file":
                    content = content_in(node.directory / f"backups/round-{round_}", entry)
                    assert f"blake3:{blake3(content).hexdigest()}" == entry["digest"], entry
    known = [e for e in entries if (e["path"], e["version"]) in editors.committed]
    assert all(editors.committed[e["path"], e["version"]] == e["digest"] for e in known)
    assert len(known) > FILES / 2, "the catalogs were looked at often enough"
    cluster.wait_settled()
    for round_ in range(2):
        operator.told(node, "backup", "remove", f"round-{round_}")
    assert list((node.directory / "backups").iterdir()) == []


def test_a_backup_is_restored_into_an_empty_cluster_to_the_last_bit(
    cluster: Cluster, operator: Operator, empty_cluster: Cluster
) -> None:
    first, second = cluster["node1"], cluster.followers()[0]
    assert operator.run(second, "backup", "run").returncode == 78, "no repository was made"
    assert operator.told(first, "backup", "init") == {"changed": True}
    assert operator.told(first, "backup", "init") == {"changed": False}

    metrics = operator.directory / "pickbox.prom"
    made = operator.told(second, "backup", "run", "--metrics", str(metrics))
    assert (made["made"], made["node"]) == (True, second.node_id)
    assert made["bytes_added"] > made["bytes"] > FILES * LARGE / 2
    assert "pickbox_backup_last_success_timestamp_seconds{" in metrics.read_text()
    again = operator.told(second, "backup", "run", "--keep", "last", "1")
    assert again["bytes_added"] < made["bytes_added"] / 20
    assert again["removed"] == 1
    assert list((second.directory / "backups").iterdir()) == []
    (kept,) = operator.told(first, "backup", "snapshots")["snapshots"]
    assert (kept["snapshot"], kept["index"]) == (again["snapshot"], str(again["index"]))
    assert operator.told(first, "backup", "check", "--read", "100%") == {"whole": True}

    done = operator.told(empty_cluster["node2"], "restore")
    assert (done["refused"], done["index"]) == (0, again["index"])
    restored, wanted = empty_cluster.wait_settled(), tree(first.files)
    assert restored == wanted
    listing = empty_cluster["node3"].listing()
    assert {p: e["digest"] for p, e in listing.items()} == {
        p: e["digest"] for p, e in first.listing().items()
    }
    assert list((empty_cluster["node2"].directory / "restores").iterdir()) == []

    refused = operator.run(empty_cluster["node1"], "restore")
    assert (refused.returncode, b"The cluster is not empty" in refused.stderr) == (4, True)
    same = operator.told(empty_cluster["node1"], "restore", "--over")
    assert (same["applied"], same["unchanged"]) == (0, done["applied"])


def test_one_folder_comes_back_and_what_it_replaces_is_kept(
    cluster: Cluster, operator: Operator
) -> None:
    node = cluster.followers()[0]
    before = cluster.wait_settled()
    digest = node.listing()[b"docs/1/1.bin"]["digest"]
    for path in ("docs/1/1.bin", "docs/2/2.bin"):
        assert node.put(path, b"changed since").status == 200
    assert node.request("DELETE", "/api/v1/files/docs/1/8.bin").status == 200
    assert node.put("docs/1/new", b"stays").status == 201

    done = operator.told(node, "restore", "docs/1/")
    assert (done["applied"], done["refused"]) == (2, 0)
    after = cluster.wait_settled()
    assert node.get("docs/2/2.bin").data == b"changed since", "only what was named"
    expected = {**before, b"docs/1/new": after[b"docs/1/new"]}
    expected[b"docs/2/2.bin"] = after[b"docs/2/2.bin"]
    assert after == expected
    assert node.listing()[b"docs/1/1.bin"]["digest"] == digest
    replaced = blake3(b"changed since").hexdigest()
    assert (node.directory / "versions" / replaced).read_bytes() == b"changed since"

    odd = operator.told(node, "restore", os.fsdecode(b"odd\xff [*]?"))
    assert (odd["applied"], odd["unchanged"]) == (0, 1)
    missing = operator.run(node, "restore", "docs/no-such")
    assert (missing.returncode, b"has nothing at" in missing.stderr) == (3, True)


def test_the_first_follower_that_is_ready_makes_it_and_the_others_leave_it(
    cluster: Cluster, operator: Operator
) -> None:
    for _ in range(5):  # an election meanwhile may make it another's turn: then once more
        term = cluster.leader().status()["term"]
        leader, followers = cluster.roles()
        first, second = sorted(followers, key=lambda node: node.node_id)
        told = [operator.told(node, "backup", "run", "--if-chosen") for node in (leader, second)]
        if cluster.leader().status()["term"] == term:
            break
    assert told == [{"made": False, "by": first.node_id}] * 2
    first.kill()

    def next_one_made_it() -> bool:
        now_leads = cluster.leader()
        follower = second if now_leads is leader else leader
        return bool(operator.told(follower, "backup", "run", "--if-chosen")["made"])

    wait_until(next_one_made_it, "the next one takes its turn", seconds=60)


def test_a_node_that_was_killed_removes_what_it_was_making(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    assert node.admin_request(
        "POST",
        "/api/v1/backups",
        body=json.dumps({"name": "left"}),
        headers={"Content-Type": "application/json"},
    ).status in (201, 202)
    node.kill()
    node.start()
    cluster.wait_ready([node])
    wait_until(
        lambda: not [*node.directory.glob("backups/*"), *node.directory.glob(".stale-*")],
        "what was left is gone",
    )
    assert node.admin_request("GET", "/api/v1/backups/left").status == 404
