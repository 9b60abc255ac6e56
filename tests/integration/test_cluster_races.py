"""What happens when people and placement are at a path in the same moment."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, tree, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster


def test_a_mode_that_is_set_right_after_a_directory_is_made_stays(cluster: Cluster) -> None:
    """As `cp -a` does it; the first mode is committed when the second one is set."""
    node = next(iter(cluster))
    top = node.files / "modes"
    top.mkdir()
    directories = [top / f"{number}" for number in range(150)]
    for directory in directories:
        directory.mkdir(mode=0o700)
    for directory, mode in zip(directories, itertools.cycle((0o755, 0o711, 0o750)), strict=False):
        directory.chmod(mode)
    wanted = {
        directory.name: mode
        for directory, mode in zip(
            directories, itertools.cycle((0o755, 0o711, 0o750)), strict=False
        )
    }
    for other in cluster:
        wait_until(
            lambda other=other: _modes(other.files / "modes") == wanted,  # type: ignore[misc]
            f"{other.node_id} has the modes that were set last",
        )


def _modes(directory: Path) -> dict[str, int]:
    found = directory.iterdir() if directory.is_dir() else ()
    return {path.name: path.stat().st_mode & 0o777 for path in found}


def test_the_last_of_many_quick_writes_wins_everywhere(cluster: Cluster) -> None:
    """One node edits a file over and over; nothing becomes a conflict with itself."""
    node = next(iter(cluster))
    path = node.files / "counter.txt"
    for number in range(300):
        path.write_text(str(number))
    for other in cluster:
        wait_until(
            lambda other=other: (
                (other.files / "counter.txt").exists()  # type: ignore[misc]
                and (other.files / "counter.txt").read_text() == "299"
            ),
            f"{other.node_id} has the last write",
        )
    assert not [p.name for other in cluster for p in other.files.glob("counter.sync-conflict-*")]


def test_what_a_power_cut_did_to_placed_files_is_undone_and_spreads_nowhere(tmp_path: Path) -> None:
    """Files were placed without a sync each: they may be empty, gone, or back, on every node."""
    with Cluster(tmp_path / "cluster") as cluster:
        assert cluster["node3"].put("old", b"what was there before").status == 201
        for name in ("emptied", "lost", "old", "kept"):
            assert cluster["node1"].put(name, f"{name}: acknowledged".encode()).status < 300
        assert cluster["node2"].put("gone", b"deleted later").status == 201
        assert cluster["node2"].request("DELETE", "/api/v1/files/gone").status == 200
        before = cluster.wait_settled()
        for node in cluster:
            node.kill()
            (node.files / "emptied").write_bytes(b"")
            (node.files / "lost").unlink()
            (node.files / "old").write_bytes(b"what was there before")
            (node.files / "gone").write_bytes(b"deleted later")
            (node.directory / "boot").write_text("another boot of the machine")
        for node in cluster:
            node.start()
        cluster.wait_ready()
        wait_until(lambda: all(tree(node.files) == before for node in cluster), "all is as it was")
        assert cluster.wait_settled() == before
        events = [e["event"] for node in cluster for e in node.events()]
        assert events.count("folder_in_doubt") == 3
        assert "conflict" not in events
