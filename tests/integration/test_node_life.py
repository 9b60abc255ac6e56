"""A node's start and its end, where something is in the way."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from cluster import Cluster, Node, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stop_waits_for_no_peer_that_hangs(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        node, *others = cluster
        for other in others:
            other.pause()
        (node.files / "large").write_bytes(os.urandom(1 << 20))
        # Offered to its peers, which accept the question and never answer.
        asked = {"event": "stage_failed"}.items()
        wait_until(lambda: any(asked <= e.items() for e in node.events()), "it asks its peers")
        assert node.stop() == 0


def test_a_leader_whose_peers_are_gone_stops_in_time(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        leader, followers = cluster.roles()
        for follower in followers:
            follower.kill()
        assert leader.stop(10.0) == 0


def test_a_log_port_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", size=1)
    node = cluster["node1"]
    with socket.create_server(("127.0.0.1", node.ports[0])):
        node.start()
        assert node.process is not None
        assert node.process.wait(20.0) == 1
    event = node.errors()[-1]
    assert event["event"] == "cannot_start"
    assert f"PICKBOX_PORT: port {node.ports[0]} on 127.0.0.1 is already in use" in event["why"]


def test_nobody_else_gets_at_the_data_of_a_node_that_runs(tmp_path: Path) -> None:
    """It goes on changing what they would have read, also when it stops and its ports are free."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        node = cluster["node1"]
        for command in (["serve"], ["recover", "--force-new-cluster", "--yes"]):
            ran = subprocess.run(
                [sys.executable, "-m", "pickbox", *command],
                env=node.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ran.returncode == 1
            assert "is in use by another process: stop it" in ran.stdout + ran.stderr
        assert node.put("file", b"content").status == 201


def test_nodes_name_the_advertised_host_to_others_and_never_use_it_themselves(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "cluster", advertised_host="nowhere.invalid") as cluster:
        told: list[dict[str, Any]] = []

        def all_are_reached() -> bool:
            told[:] = cluster["node1"].request("GET", "/api/cluster").json()["nodes"]
            return all(said["reachable"] for said in told)

        wait_until(all_are_reached, "node1 reaches all")
        for node, said in zip(cluster, told, strict=True):
            _, admin, monitor, dashboard = node.ports
            assert said["client_url"] == f"http://nowhere.invalid:{dashboard}"
            assert said["admin_url"] == f"http://nowhere.invalid:{admin}"
            assert said["monitor_url"] == f"http://nowhere.invalid:{monitor}"
        # Large content goes from node to node, and what a follower is told to the leader.
        large = os.urandom(1 << 20)
        assert cluster.followers()[0].put("large", large).status == 201
        cluster.wait_settled()
        assert all((node.files / "large").read_bytes() == large for node in cluster)


def test_who_waits_for_a_leader_is_told_when_the_node_stops(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", request_timeout="60") as cluster:
        node, *others = cluster
        for other in others:
            other.kill()
        wait_until(lambda: node.status()["leader"] is None, "it has no leader")
        with ThreadPoolExecutor(1) as client:
            put = client.submit(node.put, "file", b"content")
            proposed = {"event": "change_proposed"}.items()
            wait_until(lambda: any(proposed <= e.items() for e in node.events()), "it waits")
            assert node.stop() == 0
            assert put.result().status == 503
            assert put.result().json()["type"].endswith("no-leader")


def test_a_large_file_whose_end_comes_after_the_signal_is_taken_in(tmp_path: Path) -> None:
    """The other nodes fetch it from the node that stops, which gives it three seconds and more."""
    content = os.urandom(1 << 17)
    for attempt in range(5):
        with Cluster(tmp_path / f"cluster-{attempt}", drain_timeout="9") as cluster:
            node = cluster.followers()[0]
            status, seconds = put_that_ends_after_the_signal(node, content)
            assert node.process is not None
            assert node.process.wait(15.0) == 0
            if seconds > 3:
                continue  # a machine that stands still for so long proves nothing
            assert status == 201
            for other in cluster.running():
                wait_until(lambda o=other: o.get("large").data == content, "it is kept")
            return
    pytest.fail("no try was quick enough")


def put_that_ends_after_the_signal(node: Node, content: bytes) -> tuple[int, float]:
    """The status that a large file gets, 0 if none, and how long that took from the signal on."""
    client = http.client.HTTPConnection("127.0.0.1", node.ports[3], timeout=30)
    client.putrequest("PUT", "/api/v1/files/large")
    client.putheader("Content-Length", str(len(content)))
    client.endheaders(content[:-1])
    wait_until(lambda: requests_of_clients(node) == 1, "the request is there")
    os.kill(node.pid, signal.SIGTERM)
    began = time.monotonic()
    wait_until(lambda: not listens(node.ports[3]), "no more requests are taken")
    try:
        client.send(content[-1:])
        status = client.getresponse().status
    except OSError:
        status = 0
    return status, time.monotonic() - began


def test_signals_that_come_all_at_once_stop_a_node_once(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        node = cluster["node1"]
        assert node.process is not None
        for number in [signal.SIGTERM, signal.SIGINT] * 50:
            os.kill(node.pid, number)
        assert node.process.wait(15.0) == 0
        assert [e["event"] for e in node.events()].count("stopped") == 1


def requests_of_clients(node: Node) -> float:
    """How many the node is answering now."""
    return node.metric("pickbox_http_requests_in_flight", listener="client")


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
