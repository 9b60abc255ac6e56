"""A node's start and its end, where something is in the way."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from cluster import Cluster, wait_until

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
