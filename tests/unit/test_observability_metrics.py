"""What a node counts, and how it is told."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

import pickbox
from pickbox.observability import Metrics
from pickbox.seams import ConsensusStatus
from pickbox.status import NodeStatus

if TYPE_CHECKING:
    from pickbox.watcher.metrics import WatcherMetrics

LEADING = ConsensusStatus(
    role="leader",
    leader="node1",
    term=7,
    commit_index=100,
    applied_index=98,
    last_index=101,
    lag=2,
    has_quorum=True,
    match_index={"node1": 101, "node2": 90, "node3": 100},
    connected=("node2", "node3"),
    last_contact=0.0,
)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_names_follow_prometheus_rules() -> None:
    metrics = Metrics("node1")
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        if not family.name.startswith("pickbox_"):
            continue
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|millis|kb|mb|percent)$", family.name)
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_changes", "_entries")), family.name
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total")


def test_no_series_is_there_twice_and_none_says_when_it_began() -> None:
    text = generate_latest(Metrics("node1").registry).decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert "_created" not in text


MOVES = {"inc", "dec", "set", "set_to_current_time", "observe", "time", "info", "labels"}
SOURCES = {
    path: ast.parse(path.read_bytes()) for path in Path(pickbox.__file__).parent.rglob("*.py")
}


def called_on(name: str) -> set[str]:
    """The methods that the package calls on whatever has the name `name`."""
    return {
        node.func.attr
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == name
    }


METRICS = vars(Metrics("node1"))


@pytest.mark.parametrize(
    "name", [n for n, m in METRICS.items() if isinstance(m, MetricWrapperBase)]
)
def test_a_metric_that_is_shown_is_moved_by_something(name: str) -> None:
    assert called_on(name) & MOVES


@pytest.mark.parametrize(
    "name", [n for n, _ in inspect.getmembers(Metrics, inspect.isfunction) if n[0] != "_"]
)
def test_what_can_be_counted_is_counted_by_some_part(name: str) -> None:
    assert any(
        isinstance(node, ast.Attribute) and node.attr == name
        for path, tree in SOURCES.items()
        if path != Path(inspect.getfile(Metrics))
        for node in ast.walk(tree)
    )


def test_two_nodes_in_one_process_count_apart() -> None:
    one, two = Metrics("node1"), Metrics("node2")
    one.file_replicated(10)
    assert value(one, "pickbox_files_replicated_total") == 1
    assert value(two, "pickbox_files_replicated_total") == 0


def test_live_state_is_filled_in_at_each_scrape() -> None:
    metrics, asked = Metrics("node1"), []

    def fill() -> None:
        asked.append(1)
        metrics.disk_free_bytes.set(len(asked))

    metrics.observe_on_scrape(fill)
    assert "pickbox_disk_free_bytes 1.0" in generate_latest(metrics.registry).decode()
    assert "pickbox_disk_free_bytes 2.0" in generate_latest(metrics.registry).decode()


def test_a_callback_that_fails_does_not_fail_the_scrape() -> None:
    metrics, reached = Metrics("node1"), []

    def fail() -> None:
        raise OSError("the disk is gone")

    metrics.observe_on_scrape(fail)
    metrics.observe_on_scrape(lambda: reached.append(1))
    assert b"pickbox_build_info" in generate_latest(metrics.registry)
    assert reached


def test_the_log_is_mirrored_and_lag_is_told_by_peer() -> None:
    metrics = Metrics("node1")
    metrics.set_status(LEADING)
    assert value(metrics, "pickbox_is_leader") == 1
    assert value(metrics, "pickbox_term") == 7
    assert value(metrics, "pickbox_commit_index") == 100
    lags = {
        peer: value(metrics, "pickbox_lag_entries", peer=peer)
        for peer in ("node1", "node2", "node3")
    }
    assert lags == {"node1": 2, "node2": 10, "node3": 0}


def test_a_peer_that_is_no_longer_followed_has_no_lag() -> None:
    metrics = Metrics("node1")
    metrics.set_status(LEADING)
    follower = ConsensusStatus("follower", "node2", 8, 100, 100, 101, 0, True, {}, ("node2",), 0.1)
    metrics.set_status(follower)
    assert value(metrics, "pickbox_is_leader") == 0
    assert value(metrics, "pickbox_lag_entries", peer="node2") is None
    assert value(metrics, "pickbox_lag_entries", peer="node1") == 0


def test_clocks_are_told_of_peers_that_tell_the_time() -> None:
    metrics = Metrics("node1")
    peer = NodeStatus("node2", reachable=True, clock_offset=-119.5)
    metrics.set_clocks([NodeStatus("node1", reachable=True), peer])
    assert value(metrics, "pickbox_clock_offset_seconds", peer="node2") == -119.5
    assert value(metrics, "pickbox_clock_offset_seconds", peer="node1") is None
    metrics.set_clocks([NodeStatus("node2", reachable=False)])
    assert value(metrics, "pickbox_clock_offset_seconds", peer="node2") is None


def test_figures_are_what_was_counted_and_what_the_process_uses() -> None:
    metrics = Metrics("node1")
    assert metrics.figures().last_replication is None
    metrics.file_replicated(10)
    metrics.file_replicated(32)
    metrics.replication_errors.labels(cause="a").inc()
    metrics.replication_errors.labels(cause="b").inc(2)
    metrics.replication_duration.observe(1)
    metrics.replication_duration.observe(3)
    figures = metrics.figures()
    assert (figures.files_replicated, figures.bytes_replicated) == (2, 42)
    assert figures.replication_errors == 3
    assert figures.replication_seconds_avg == 2.0
    assert figures.last_replication
    assert figures.memory_bytes > 1 << 20
    assert figures.threads >= 1
    assert figures.cpu_seconds <= sum(os.times()[:2])


def test_the_watchers_words_become_metrics() -> None:
    metrics = Metrics("node1")
    watcher: WatcherMetrics = metrics
    watcher.scanned("overflow", 1.5)
    watcher.overflowed()
    watcher.event_seen()
    watcher.change_settled("applied", 0.2)
    watcher.conflict_taken()
    watcher.skipped()
    watcher.failed("unreadable")
    counted = {
        "pickbox_inotify_overflows_total": {},
        "pickbox_fs_events_total": {},
        "pickbox_conflicts_total": {},
        "pickbox_special_files_skipped_total": {},
        "pickbox_rescans_total": {"reason": "overflow"},
        "pickbox_changes_total": {"result": "applied"},
        "pickbox_watcher_errors_total": {"cause": "unreadable"},
        "pickbox_scan_duration_seconds_count": {},
        "pickbox_change_duration_seconds_count": {},
    }
    for name, labels in counted.items():
        assert value(metrics, name, **labels) == 1, name
