"""Nodes under systemd: what they tell it, from a cold start to the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import urllib3
from cluster import Cluster, wait_until
from service_manager import Notifications

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Node

WATCHDOG = 2.0


def listen(node: Node, directory: Path) -> Notifications:
    """Have `node` tell what it has to tell."""
    systemd = Notifications(str(directory / f"{node.node_id}.notify"))
    node.environment["NOTIFY_SOCKET"] = systemd.address
    node.environment["WATCHDOG_USEC"] = str(int(WATCHDOG * 1e6))
    return systemd


def test_nodes_are_ready_when_they_have_joined_and_say_why_they_are_not(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    first, *others = cluster
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        systemd = {node.node_id: stack.enter_context(listen(node, tmp_path)) for node in cluster}
        first.start()
        alone = systemd[first.node_id]
        assert alone.until("STATUS=").startswith("STATUS=no leader is known: a majority")
        alone.until("WATCHDOG=1")
        alone.until("WATCHDOG=1")
        assert "READY=1" not in alone.heard
        for node in others:
            node.start()
        for node in cluster:
            systemd[node.node_id].until("READY=1")
            assert systemd[node.node_id].until("MAINPID=") == f"MAINPID={node.pid}"
            systemd[node.node_id].until("STATUS=ready")

        waiting = cluster.join("node4")
        told = stack.enter_context(listen(waiting, tmp_path))
        waiting.start()
        told.until("READY=1")  # it can be added only if it runs
        told.until("STATUS=not ready")

        alone.drain()  # what finds no room is dropped
        assert first.stop() == 0
        alone.drain()
        assert "STOPPING=1" in alone.heard


def test_a_node_whose_log_hangs_gives_no_sign_of_life(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", size=1, failpoints="commit_before_apply=sleep(60)")
    node = cluster["node1"]
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        systemd = stack.enter_context(listen(node, tmp_path))
        node.start()
        systemd.until("READY=1")
        systemd.until("WATCHDOG=1")
        (node.files / "file").write_bytes(b"content")

        def finds_its_log_hanging() -> bool:
            systemd.drain()  # as systemd does: what waits there would be read afterwards
            return not _is_live(node)

        wait_until(finds_its_log_hanging, "it finds its log hanging")
        systemd.drain()
        with pytest.raises(TimeoutError):  # so it is restarted
            systemd.until("WATCHDOG=1", WATCHDOG)


def _is_live(node: Node) -> bool:
    return urllib3.request("GET", f"{node.monitor}/live", timeout=5.0).status == 200
