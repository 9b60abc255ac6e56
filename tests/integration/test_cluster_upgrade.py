"""An upgrade from this release to the next, node by node under writes, and the ways back."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from cluster import Cluster, Node, put_until_acknowledged, wait_until

import pickbox
from releases.make import ROOT, make

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.cluster
KINDS = ("next", "major")
SEGMENT = 1 << 20
"""Bytes of a segment of the log, the least that a setting allows."""


@dataclass(frozen=True)
class Release:
    """The sources of a release, for nodes to run."""

    version: str
    sources: Path

    def runs_on(self, node: Node) -> None:
        """Have the node, which is stopped, run this release at its next start."""
        node.environment["PYTHONPATH"] = str(self.sources / "node_service")


class Writer:
    """Writes until it is asked to stop, at one node after the other, with retries under one key."""

    def __init__(self, cluster: Cluster) -> None:
        self.written: dict[str, bytes] = {}
        self._cluster = cluster
        self._failures: list[Exception] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        assert not self._failures

    def wrote_more(self) -> None:
        before = len(self.written)
        wait_until(lambda: len(self.written) > before + 2, "the writer goes on")

    def _run(self) -> None:
        nodes = list(self._cluster)
        try:
            for number in itertools.count():
                if self._stopping.wait(0.02):
                    return
                path, content = f"under-writes/{number}", str(number).encode()
                first = number % len(nodes)
                put_until_acknowledged([*nodes[first:], *nodes[:first]], path, content)
                self.written[path] = content
        except Exception as error:
            self._failures.append(error)


def roll(cluster: Cluster, node: Node, release: Release) -> None:
    """What an operator does to one node: drain, stop, switch the release, start, wait."""
    node.admin_request("POST", "/api/v1/drain")
    assert node.stop() == 0
    release.runs_on(node)
    node.start()
    cluster.wait_ready([node])
    assert node.status()["version"] == release.version


def logged(node: Node, event: str) -> list[dict[str, Any]]:
    return [found for found in node.events() if found["event"] == event]


def cut_the_log(nodes: Sequence[Node]) -> None:
    """Have the log of nodes, whichever leads, not reach back to a node that is away now.

    Entries go by whole segments, so some are filled.
    """
    content = bytes(31 << 10)
    for number in range(2 * SEGMENT // len(content)):
        assert nodes[0].put(f"large/{number}", content).status == 201
    last = nodes[0].status()["applied_index"]
    for node in nodes:
        wait_until(lambda node=node: node.status()["applied_index"] >= last, "it has all")  # type: ignore[misc]
        node.admin_request("POST", "/api/v1/snapshot")
        wait_until(
            lambda node=node: any(e["index"] >= last for e in logged(node, "log_compacted")),  # type: ignore[misc]
            "it is cut",
        )
    assert nodes[0].put("large/last", b"").status == 201


def upgrade(node: Node) -> dict[str, Any]:
    answer: dict[str, Any] = node.admin_request("GET", "/api/v1/upgrade").json()
    return answer


def labels(cluster: Cluster, path: str) -> list[str | None]:
    """The label of `path` as each node has it."""
    return [node.request("GET", f"/api/v1/labels/{path}").json()["label"] for node in cluster]


def leads_and_is_kept_back(node: Node) -> bool:
    """Whether all of a node is well but for what the test release says."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        status = node.status()
        return status["role"] == "leader" and status["reasons"] == [
            "this release of a test is never ready"
        ]
    return False


def why_not_started(node: Node) -> str:
    """Start a node that must not start; its one sentence."""
    node.start()
    assert node.process is not None
    assert node.process.wait(20) == 78
    last = node.events()[-1]
    assert (last["event"], last["level"]) == ("cannot_start", "critical")
    why: str = last["why"]
    return why


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, Release]:
    made = {kind: Release(make(kind, tmp_path / kind), tmp_path / kind) for kind in KINDS}
    return {"this": Release(pickbox.__version__, ROOT), **made}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", compact_bytes=str(SEGMENT), compact_keep="0") as cluster:
        yield cluster


def nothing_new_is_used(cluster: Cluster, this: Release) -> None:
    """Old and new run side by side: whoever is asked says what keeps the cluster back."""
    first, *_ = cluster
    refused = first.request("PUT", "/api/v1/labels/report/draft")
    assert (refused.status, refused.json()["type"]) == (409, "urn:pickbox:problem:level-too-low")
    assert "pickbox upgrade finish" in refused.json()["detail"]
    for node in cluster:
        found = upgrade(node)
        assert (found["level"], found["target"], found["finished"]) == (1, 2, False)
        told = node.admin_request("POST", "/api/v1/upgrade")
        assert told.status == 409
        assert f"node3 runs release {this.version}" in told.json()["detail"]
        assert "node1" not in told.json()["detail"]
        assert node.metric("pickbox_level") == 1
    assert first.metric("pickbox_understood_level") == 2


def all_that_is_new_is_used(cluster: Cluster) -> None:
    """The upgrade is finished, once and for all."""
    _, second, third = cluster
    finished = second.admin_request("POST", "/api/v1/upgrade")
    assert (finished.status, finished.json()["level"]) == (200, 2)
    assert third.admin_request("POST", "/api/v1/upgrade").status == 200, "again changes nothing"
    wait_until(lambda: all(node.status()["level"] == 2 for node in cluster), "all are told")
    assert labels(cluster, "report") == [None, None, None]
    assert third.request("PUT", "/api/v1/labels/report/final").status == 200
    wait_until(lambda: set(labels(cluster, "report")) == {"final"}, "the column is filled")


def test_a_cluster_goes_to_the_next_release_and_back_until_it_is_finished(
    cluster: Cluster, releases: dict[str, Release]
) -> None:
    this, following, major = releases["this"], releases["next"], releases["major"]
    first, second, third = cluster
    assert upgrade(first)["finished"], "a new cluster has nothing to finish"
    assert first.put("report", b"1").status == 201
    with Writer(cluster) as writer:
        for node in (first, second):
            roll(cluster, node, following)
        nothing_new_is_used(cluster, this)

        # A node that was away gets the snapshot of a newer one.
        assert third.stop() == 0
        newer = [first, second]
        cluster.leader_of(newer)
        cut_the_log(newer)
        third.start()
        cluster.wait_ready([third])
        wait_until(lambda: any(logged(n, "snapshot_transfer_done") for n in newer), "it was sent")

        # A node can go back.
        roll(cluster, first, this)
        writer.wrote_more()
        for node in (third, first):
            roll(cluster, node, following)
        all_that_is_new_is_used(cluster)
        writer.wrote_more()
    cluster.wait_settled()
    for path, content in writer.written.items():
        assert (first.files / path).read_bytes() == content

    # The older release refuses what it would not understand.
    assert third.stop() == 0
    this.runs_on(third)
    why = why_not_started(third)
    assert f"since the upgrade to release {following.version} was finished" in why
    assert f"this is {this.version}, which understands up to level 1" in why
    assert f"start release {following.version} or a later one" in why

    # So does every release of a major number that is lower than that of one that ran on it.
    major.runs_on(third)
    third.start()
    cluster.wait_ready([third])
    assert third.stop() == 0
    following.runs_on(third)
    why = why_not_started(third)
    assert f"was written by release {major.version}, and this is {following.version}" in why
    assert f"start {major.version} or a later one again" in why


def test_the_releases_that_fail_do_so(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", size=1)
    (node,) = cluster
    try:
        Release(make("failing", tmp_path / "failing"), tmp_path / "failing").runs_on(node)
        node.start()
        assert node.process is not None
        assert node.process.wait(20) == 1
        assert not node.directory.exists() or not list(node.directory.iterdir()), "nothing is used"
        Release(make("stuck", tmp_path / "stuck"), tmp_path / "stuck").runs_on(node)
        node.start()
        wait_until(lambda: leads_and_is_kept_back(node), "only the test keeps it back")
    finally:
        cluster.stop()
