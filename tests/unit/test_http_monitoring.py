"""What probes and Prometheus are told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from http_node import Running, running
from prometheus_client.parser import text_string_to_metric_families

from pickbox.status import Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LEADER = Check("leader", ok=False, reason="No leader is known; see the other nodes.")
FULL_DISK = Check("disk", ok=False, reason="The disk is nearly full.", gates_ready=False)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_a_node_in_order_is_live_ready_and_healthy(node: Running) -> None:
    assert node.monitor("GET", "/live").json == {"live": True}
    ready = node.monitor("GET", "/ready")
    assert (ready.status, ready.json["ready"], ready.json["reasons"]) == (200, True, [])
    assert node.monitor("GET", "/health").status == 200


def test_a_node_without_leader_is_live_and_not_ready(node: Running) -> None:
    node.control.checks = [NO_LEADER]
    ready = node.monitor("GET", "/ready")
    assert (ready.status, ready.headers["Retry-After"]) == (503, "1")
    assert ready.problem["reasons"] == [NO_LEADER.reason]
    assert ready.problem["detail"] == NO_LEADER.reason
    assert node.monitor("GET", "/health").status == 503
    assert node.monitor("GET", "/live").status == 200


def test_a_check_that_only_warns_is_told_and_keeps_the_node_ready(node: Running) -> None:
    node.control.checks = [FULL_DISK]
    ready = node.monitor("GET", "/ready")
    assert (ready.status, ready.json["reasons"]) == (200, [])
    health = node.monitor("GET", "/health").json
    assert health["checks"][0] == {
        "name": "disk",
        "ok": False,
        "reason": FULL_DISK.reason,
        "gates_ready": False,
    }


def test_the_reasons_for_not_being_ready_leave_warnings_out(node: Running) -> None:
    node.control.checks = [FULL_DISK, NO_LEADER]
    ready = node.monitor("GET", "/ready").problem
    assert (ready["reasons"], ready["detail"]) == ([NO_LEADER.reason], NO_LEADER.reason)


def test_verbose_prints_a_line_a_check(node: Running) -> None:
    assert node.monitor("GET", "/ready?verbose").content == b"[+]leader ok\n[+]draining ok\nready\n"
    node.control.checks = [NO_LEADER]
    verbose = node.monitor("GET", "/ready?verbose")
    assert verbose.status == 503
    assert verbose.content.splitlines()[0] == b"[-]leader failed: " + NO_LEADER.reason.encode()


def test_a_node_whose_threads_stand_still_is_not_live(node: Running) -> None:
    node.control.is_live = False
    assert node.monitor("GET", "/live").problem["status"] == 503


def test_the_index_names_the_node(node: Running) -> None:
    index = node.monitor("GET", "/").json
    assert (index["service"], index["node_id"], index["state"]) == ("pickbox", "node1", "leader")


def test_metrics_are_read_by_prometheus(node: Running) -> None:
    answer = node.monitor("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = {f.name: f for f in text_string_to_metric_families(answer.content.decode())}
    assert families["pickbox_build_info"].samples[0].labels["node"] == "node1"
    assert "process_resident_memory_bytes" in families
    assert "python_gc_objects_collected" in families


def test_requests_are_counted_by_route_and_never_by_path(node: Running) -> None:
    node.put("secret/name.txt", b"x")
    node.client("GET", "/api/v1/files/secret/name.txt")
    node.client("GET", "/api/v1/files/secret/../x")
    node.client("GET", "/nowhere/at/all")
    node.client("BREW", "/api/v1/files/secret/name.txt")
    wanted = {
        ("PUT", "/api/v1/files/<path:path>", "201"): 1,
        ("GET", "/api/v1/files/<path:path>", "200"): 1,
        ("GET", "/api/v1/files/<path:path>", "400"): 1,
        ("GET", "unmatched", "404"): 1,
        ("OTHER", "unmatched", "405"): 1,
    }
    deadline = time.monotonic() + 5
    while (counted := _requests(node)) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counted == wanted
    assert b"secret" not in node.monitor("GET", "/metrics").content


def _requests(node: Running) -> dict[tuple[str, str, str], float]:
    text = node.monitor("GET", "/metrics").content.decode()
    return {
        (s.labels["method"], s.labels["route"], s.labels["code"]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "pickbox_http_requests_total" and s.labels["listener"] == "client"
    }
