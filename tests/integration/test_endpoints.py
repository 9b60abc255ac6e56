"""Every endpoint of the three listeners on real nodes, and figures that really move."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cluster import Cluster, Node, wait_until
from described_api import DOCUMENT, ENDLESS
from prometheus_client.parser import text_string_to_metric_families
from urllib3 import PoolManager

import pickbox.http

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

pytestmark = pytest.mark.cluster

POOL = PoolManager(retries=False)
FILE = "notes/plan ü.txt"
LARGE = 3 << 20
FILES, ENTRIES = 7, 9  # two of the entries are directories
REQUEST = "request-of-the-endpoint-tests"
NODES = ["node1", "node2", "node3"]

STATIC = Path(pickbox.http.__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
CLIENT = {"/": "text/html"} | {
    f"/static/{file.relative_to(STATIC)}": TYPES[file.suffix]
    for file in sorted(STATIC.rglob("*.*"))
}
ADMIN = {
    "/": {"node_id", "version", "api"},
    "/api/v1/status": {"node", "health", "cluster"},
    "/api/v1/members": {"members", "version"},
    "/api/v1/leader": {"leader", "term"},
    "/api/v1/deletes": {"count", "known", "examples"},
}
ACTIONS = ["/api/v1/drain", "/api/v1/snapshot"]
MONITOR = {
    "/": {"service", "version", "node_id", "state", "uptime"},
    "/live": {"live"},
    "/ready": {"node_id", "ready", "reasons"},
    "/health": {"node_id", "ready", "reasons", "checks"},
}
BETWEEN_NODES = ["propose", "barrier", "stage", "transfer", "status", "content/" + "0" * 64]


@pytest.fixture(scope="module")
def used(module_cluster: Cluster) -> Cluster:
    """A cluster that has done some of everything."""
    cluster = module_cluster
    first = cluster["node1"]
    assert first.put(FILE, b"a plan", Idempotency_Key=REQUEST).status == 201
    for node in cluster:
        assert node.put(f"large/{node.node_id}.bin", os.urandom(LARGE)).status == 201
        (node.files / f"local of {node.node_id}").write_bytes(b"local")
    os.mkfifo(first.files / "pipe")
    assert first.put("gone.txt", b"gone").status == 201
    wait_until(lambda: all((n.files / "gone.txt").exists() for n in cluster), "it is everywhere")
    assert first.request("DELETE", "/api/v1/files/gone.txt").status == 200
    wait_until(lambda: all(len(n.listing()) == ENTRIES for n in cluster), "all is in the catalogs")
    wait_until(lambda: first.metric("pickbox_special_files_skipped_total") > 0, "the pipe is seen")
    (first.files / "pipe").unlink()
    cluster.wait_settled()
    # The sums over the catalog are made anew every two seconds at most.
    wait_until(
        lambda: all(n.metric("pickbox_files") == FILES for n in cluster), "files are counted"
    )
    return cluster


def get(url: str, **headers: str) -> BaseHTTPResponse:
    return POOL.request("GET", url, headers=headers, timeout=20.0)


def is_problem(response: BaseHTTPResponse, status: int, kind: str) -> bool:
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], response.status) == (status, status), problem
    assert problem["type"].rpartition(":")[2] == kind
    return len(problem["detail"].split()) > 3


@pytest.mark.parametrize("node_id", NODES)
@pytest.mark.parametrize("path", sorted(set(DOCUMENT["paths"]) - {ENDLESS}))
def test_every_described_path_answers(used: Cluster, node_id: str, path: str) -> None:
    real = path.replace("{path}", "notes/plan%20%C3%BC.txt").replace("{request_id}", REQUEST)
    response = get(used[node_id].client + real)
    described = DOCUMENT["paths"][path].get("get")
    if described is None:
        assert is_problem(response, 405, "method-not-allowed")
        return
    assert response.status == 200
    if path.endswith("{path}"):
        assert response.data == b"a plan"
        return
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()


def test_every_node_streams_what_all_of_them_are_like(used: Cluster) -> None:
    for node in used:
        response = POOL.request("GET", node.client + ENDLESS, preload_content=False, timeout=20.0)
        assert response.headers["Content-Type"] == "text/event-stream"
        chunks, read = response.read_chunked(), b""
        while b"event: state\ndata: " not in read or not read.endswith(b"\n\n"):
            read += next(chunks)
        state = json.loads(read.rpartition(b"data: ")[2])
        assert [member["node_id"] for member in state["cluster"]["nodes"]] == NODES
        assert state["health"]["node_id"] == node.node_id
        response.close()


@pytest.mark.parametrize("path", sorted(CLIENT))
def test_the_dashboard_and_its_parts_are_served(used: Cluster, path: str) -> None:
    for node in used:
        response = get(node.client + path)
        assert response.status == 200
        assert response.headers["Content-Type"].partition(";")[0] == CLIENT[path]
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", sorted(ADMIN))
def test_operators_with_the_token_are_answered_and_others_are_not(used: Cluster, path: str) -> None:
    for node in used:
        response = node.admin_request("GET", path)
        assert (response.status, set(response.json())) == (200, ADMIN[path])
        for headers in ({}, {"Authorization": "Bearer not-the-token-of-the-node"}):
            refused = get(node.admin + path, **headers)
            assert is_problem(refused, 401, "unauthorized")
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ACTIONS)
def test_to_look_at_an_action_is_not_to_do_it(used: Cluster, path: str) -> None:
    for node in used:
        assert is_problem(node.admin_request("GET", path), 405, "method-not-allowed")
        wait_until(node.ready, f"{node.node_id} is as ready as before")


@pytest.mark.parametrize("path", BETWEEN_NODES)
def test_the_api_between_nodes_is_on_no_port_without_certificates(used: Cluster, path: str) -> None:
    for node in used:
        method = "GET" if path.startswith(("status", "content")) else "POST"
        # Not even for operators: who may command a node may not speak as one.
        assert is_problem(node.admin_request(method, f"/peer/v1/{path}"), 404, "not-found")
        assert is_problem(node.request(method, f"/peer/v1/{path}"), 404, "not-found")


@pytest.mark.parametrize("path", sorted(MONITOR))
def test_probes_are_answered(used: Cluster, path: str) -> None:
    def answers_well(node: Node) -> bool:
        response = get(node.monitor + path)
        return (response.status, set(response.json())) == (200, MONITOR[path])

    for node in used:
        wait_until(lambda node=node: answers_well(node), f"{node.node_id} is well")
    verbose = used["node1"].monitor + "/ready?verbose"
    wait_until(lambda: get(verbose).data.endswith(b"\nready\n"), "it says so in words")


def test_what_is_not_there_is_a_problem_on_every_listener(used: Cluster) -> None:
    node = used["node1"]
    assert is_problem(get(node.client + "/nothing"), 404, "not-found")
    assert is_problem(get(node.monitor + "/nothing"), 404, "not-found")
    assert is_problem(node.admin_request("GET", "/nothing"), 404, "not-found")


class Page:
    """A node's metrics page, read as Prometheus reads it."""

    def __init__(self, node: Node) -> None:
        response = get(f"{node.monitor}/metrics")
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        self.families = {f.name: f for f in text_string_to_metric_families(response.data.decode())}

    def value(self, sample: str, **labels: str) -> float:
        """The sum of all samples of that name and those labels."""
        return sum(
            found.value
            for family in self.families.values()
            for found in family.samples
            if found.name == f"pickbox_{sample}" and labels.items() <= found.labels.items()
        )


@pytest.fixture(scope="module")
def pages(used: Cluster) -> dict[str, Page]:
    """Taken one after the other, with nothing done and no election between the first and last."""
    taken: dict[str, Page] = {}

    def of_one_moment() -> bool:
        taken.update({node.node_id: Page(node) for node in used})
        same = {(p.value("applied_index"), p.value("term")) for p in taken.values()}
        return len(same) == 1 and all(page.value("ready") == 1 for page in taken.values())

    wait_until(of_one_moment, "all are ready, and have applied the same")
    return taken


MOVED = [
    ("files_replicated_total", {}),
    ("files_deleted_total", {}),
    ("bytes_replicated_total", {}),
    ("bytes_transferred_total", {"direction": "sent"}),
    ("bytes_transferred_total", {"direction": "received"}),
    ("replication_duration_seconds_count", {}),
    ("replication_duration_seconds_sum", {}),
    ("commit_duration_seconds_count", {}),
    ("commit_duration_seconds_sum", {}),
    ("fsync_duration_seconds_count", {"target": "content"}),
    ("last_replication_timestamp_seconds", {}),
    ("term", {}),
    ("commit_index", {}),
    ("applied_index", {}),
    ("last_index", {}),
    ("leader_changes_total", {}),
    ("fs_events_total", {}),
    ("changes_total", {"result": "applied"}),
    ("change_duration_seconds_count", {}),
    ("scan_duration_seconds_count", {}),
    ("rescans_total", {"reason": "start"}),
    ("disk_free_bytes", {}),
    ("disk_reserve_bytes", {}),
    ("disk_size_bytes", {}),
    ("certificate_expiry_timestamp_seconds", {}),
    ("http_requests_total", {"listener": "client", "method": "PUT", "code": "201"}),
    ("http_request_duration_seconds_count", {"listener": "client"}),
    ("http_requests_in_flight", {"listener": "monitor"}),
]


@pytest.mark.parametrize("node_id", NODES)
@pytest.mark.parametrize(("sample", "labels"), MOVED)
def test_work_moves_the_metrics_of_every_node(
    pages: dict[str, Page], node_id: str, sample: str, labels: dict[str, str]
) -> None:
    assert pages[node_id].value(sample, **labels) > 0


def test_exactly_one_node_says_that_it_leads(used: Cluster) -> None:
    def one_leads() -> bool:
        leader = used.leader()
        expected = [float(node is leader) for node in used]
        return [node.metric("pickbox_is_leader") for node in used] == expected

    wait_until(one_leads, "one leads")


def test_metrics_say_what_is_so(used: Cluster, pages: dict[str, Page]) -> None:
    for node_id, page in pages.items():
        assert (page.value("members"), page.value("has_quorum"), page.value("ready")) == (3, 1, 1)
        assert page.value("files") == FILES
        assert page.value("bytes") == 3 * LARGE + len("a plan") + 3 * len("local")
        assert page.value("pending_content") == 0
        assert page.value("pending_content_age_seconds") == 0
        assert page.value("applied_index") == pages["node1"].value("applied_index")
        assert time.time() - page.value("last_replication_timestamp_seconds") < 300
        assert page.value("build_info", node=node_id) == 1
    assert sum(page.value("batch_changes_count") for page in pages.values()) > 0


def test_every_node_compares_the_clocks_of_the_others_with_its_own(used: Cluster) -> None:
    def told(node: Node) -> dict[str, float]:
        family = Page(node).families["pickbox_clock_offset_seconds"]
        return {sample.labels["peer"]: sample.value for sample in family.samples}

    def compared(node: Node) -> bool:
        offsets = told(node)
        others = set(NODES) - {node.node_id}
        return offsets.keys() == others and max(map(abs, offsets.values())) < 1

    for node in used:
        wait_until(lambda node=node: compared(node), "its clock is like the others': one machine")


def test_what_one_node_sent_the_others_received(pages: dict[str, Page]) -> None:
    for sender in NODES:
        received = 0.0
        for receiver in set(NODES) - {sender}:
            labels = {"direction": "received", "peer": sender}
            received += pages[receiver].value("bytes_transferred_total", **labels)
        assert pages[sender].value("bytes_transferred_total", direction="sent") >= received
    total = sum(p.value("bytes_transferred_total", direction="received") for p in pages.values())
    assert total >= 2 * 3 * LARGE, "three contents, each on two nodes that did not have it"


def test_every_family_has_a_type_and_a_sentence(pages: dict[str, Page]) -> None:
    for page in pages.values():
        ours = {name: f for name, f in page.families.items() if name.startswith("pickbox_")}
        assert len(ours) > 35
        assert [name for name, f in ours.items() if f.type == "unknown"] == []
        assert [name for name, f in ours.items() if not f.documentation.endswith(".")] == []


def test_a_snapshot_makes_the_volume_durable_first(used: Cluster) -> None:
    leader = used.leader()
    assert leader.admin_request("POST", "/api/v1/snapshot").json()["index"] > 0
    wait_until(
        lambda: leader.metric("pickbox_fsync_duration_seconds_count", target="volume") > 0,
        "the volume was made durable",
    )
