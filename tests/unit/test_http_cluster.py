"""The cluster's state on the client port, under the predecessor's names, and the dashboard."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest
from http_node import Running, running

from pickbox.status import Check, NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_health_keeps_the_names_of_the_predecessor(node: Running) -> None:
    health = node.client("GET", "/api/health").json
    names = "node_id state leader peers last_log_index commit_index applied_index uptime timestamp"
    assert set(names.split()) <= set(health)
    assert (health["state"], health["last_log_index"], health["commit_index"]) == ("leader", 42, 41)


def test_a_node_alone_has_a_list_of_no_peers(node: Running) -> None:
    assert node.client("GET", "/api/health").json["peers"] == []


def test_health_is_503_when_the_node_is_not_ready(node: Running) -> None:
    node.control.checks = [Check("leader", ok=False, reason="No leader.")]
    health = node.client("GET", "/api/health")
    assert (health.status, health.problem["ready"]) == (503, False)
    assert health.problem["checks"][0]["name"] == "leader"


def test_metrics_keep_the_names_of_the_predecessor(node: Running) -> None:
    metrics = node.client("GET", "/api/metrics").json
    names = (
        "node_id files_replicated files_deleted bytes_replicated replication_errors "
        "avg_replication_time_ms last_replication_time memory_usage_bytes uptime timestamp"
    )
    assert set(names.split()) <= set(metrics)
    assert (metrics["files_replicated"], metrics["last_replication_time"]) == (3, None)


def test_the_cluster_is_summed_up_and_listed(node: Running) -> None:
    node.control.others = (NodeStatus("node2", reachable=False, error="connection refused"),)
    cluster = node.client("GET", "/api/cluster").json
    summary = {
        "cluster_name": "pickbox",
        "total_nodes": 2,
        "leader_node": "node1",
        "leader": "node1",
        "current_state": "leader",
        "files_tracked": 2,
        "total_bytes": 10,
        "error_rate": 0.25,
        "quorum": 2,
        "has_quorum": True,
    }
    assert {name: cluster[name] for name in summary} == summary
    assert [n["node_id"] for n in cluster["nodes"]] == ["node1", "node2"]
    assert cluster["nodes"][1]["error"] == "connection refused"
    peers = node.client("GET", "/api/health").json["peers"]
    assert peers == [{"node_id": "node2", "reachable": False, "role": "unknown"}]


def test_what_a_ready_node_warns_of_is_told_by_name(node: Running) -> None:
    node.control.checks = [Check("disk", ok=False, reason="It is full.", gates_ready=False)]
    mine = node.client("GET", "/api/cluster").json["nodes"][0]
    assert (mine["ready"], mine["reasons"], mine["warnings"]) == (True, ["It is full."], ["disk"])


def test_why_a_node_takes_no_part_is_told_with_the_cluster(node: Running) -> None:
    assert node.client("GET", "/api/cluster").json["standing"] == ""
    node.control.standing = "this node was removed by version 4 of the members"
    assert "was removed" in node.client("GET", "/api/cluster").json["standing"]


def test_conflict_copies_are_listed(node: Running) -> None:
    copy = "a/report.sync-conflict-20260101-120000-node2.txt"
    for path in ("a/report.txt", copy, "x.sync-conflict-dir/plain.txt"):
        node.put(path, b"x")
    found = node.client("GET", "/api/conflicts").json
    paths = [entry["path"] for entry in found["conflicts"]]
    assert (paths, found["more"]) == ([copy, "x.sync-conflict-dir"], False)


def test_the_dashboard_runs_no_script_but_its_own(node: Running) -> None:
    page = node.client("GET", "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe" not in policy
    html = page.content.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", html)
    for address in re.findall(r'(?:src|href)="(/[^"]+)"', html):
        assert node.client("GET", address).status == 200, address


def test_the_dashboard_never_takes_data_for_markup(node: Running) -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("
    for name, script in modules(node).items():
        assert not re.search(markup, script), name


def modules(node: Running) -> dict[str, str]:
    """The page's scripts by name: those that it names itself, and all that they import."""
    found: dict[str, str] = {}
    wanted = re.findall(r'src="/static/([a-z]+\.js)"', node.client("GET", "/").content.decode())
    assert wanted == ["starting.js", "dashboard.js"]
    for name in wanted:
        script = node.client("GET", f"/static/{name}")
        assert script.status == 200, name
        found[name] = script.content.decode()
        imported = re.findall(r'^(?:import|}) .*from "\./(.+)";$', found[name], re.MULTILINE)
        wanted += [each for each in imported if each not in wanted]
    assert len(found) > 10, "imports are written in another way now"
    return found


def test_the_dashboard_knows_how_large_a_file_may_be(node: Running) -> None:
    page = node.client("GET", "/").content.decode()
    assert f'data-largest="{node.settings.max_file_size}"' in page


def test_what_others_made_is_served_as_they_published_it(node: Running) -> None:
    """uPlot 1.6.32, as docs/architecture.md says; its license lies beside it."""
    published = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }
    served = {name: node.client("GET", f"/static/vendor/uplot/{name}") for name in published}
    digests = {name: hashlib.sha256(answer.content).hexdigest() for name, answer in served.items()}
    assert digests == published
    assert b"MIT License" in node.client("GET", "/static/vendor/uplot/LICENSE").content
