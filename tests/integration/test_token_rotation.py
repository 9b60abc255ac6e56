"""Admin tokens of a node that runs, replaced under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import Cluster, Node, wait_until

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "the-old-token-of-the-cluster", "the-new-token-of-the-cluster"
GUARDED = ("/api/v1/leader", "/api/v1/members")


def statuses(node: Node, token: str) -> set[int]:
    """What the parts of the admin API answer to `token`."""
    headers = {"Authorization": f"Bearer {token}"}
    return {node.admin_request("GET", path, headers=headers).status for path in GUARDED}


def test_tokens_are_rotated_without_a_restart_and_without_a_gap(tmp_path: Path) -> None:
    file = tmp_path / "admin_token"
    file.write_text(OLD)
    cluster = Cluster(tmp_path / "cluster", size=1, admin_token_file=str(file))
    node = cluster["node1"]
    del node.environment["PICKBOX_ADMIN_TOKEN"]
    try:
        cluster.start()
        pid = node.pid
        assert statuses(node, OLD) == {200}
        assert statuses(node, NEW) == {401}

        file.write_text(f"\n {NEW} \n{OLD}\n")
        wait_until(lambda: statuses(node, NEW) == {200}, "the new token is accepted")
        assert statuses(node, OLD) == {200}

        file.write_text(f"{NEW}\n")
        wait_until(lambda: statuses(node, OLD) == {401}, "the old token is refused")
        assert statuses(node, NEW) == {200}

        file.write_text("")
        failed = {"event": "admin_tokens_not_reloaded", "tokens": 1}.items()
        wait_until(lambda: any(failed <= e.items() for e in node.events()), "it says so")
        assert statuses(node, NEW) == {200}

        assert node.running()
        assert node.pid == pid
        counts = [e["tokens"] for e in node.events() if e["event"] == "admin_tokens_reloaded"]
        assert counts == [2, 1]
        log = node.log.read_text()
        assert OLD not in log
        assert NEW not in log
    finally:
        cluster.stop()
