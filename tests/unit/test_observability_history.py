"""The ring of samples, and what the observer finds."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pickbox.changes import Entry, Kind
from pickbox.observability.events import FILE_EVENTS_KEPT, KEPT, Events, Finding, differences
from pickbox.observability.file_changes import FileChanges
from pickbox.observability.history import History, Reading
from pickbox.observability.observer import Observer
from pickbox.status import ClusterStatus, Figures, NodeStatus

COPY = b"a.sync-conflict-20260101-120000-node2.txt"


def node(node_id: str = "node1", **fields: object) -> NodeStatus:
    figures = Figures(
        uptime_seconds=10.0,
        cpu_seconds=1.0,
        replications=4,
        replication_seconds_avg=0.5,
        disk_total_bytes=100,
        disk_free_bytes=25,
    )
    known = NodeStatus(node_id, reachable=True, ready=True, commit_index=100, figures=figures)
    return replace(known, **fields)  # type: ignore[arg-type]


def later(before: NodeStatus) -> NodeStatus:
    """Five seconds on."""
    figures = replace(
        before.figures,
        uptime_seconds=before.figures.uptime_seconds + 5,
        cpu_seconds=before.figures.cpu_seconds + 0.5,
        bytes_replicated=5000,
        replications=6,
        replication_seconds_avg=0.4,
    )
    return replace(before, commit_index=before.commit_index + 50, figures=figures)


def cluster(*nodes: NodeStatus, leader: str | None = "node1") -> ClusterStatus:
    return ClusterStatus("pickbox", leader, 3, 2, leader is not None, nodes)


def kinds(before: ClusterStatus, now: ClusterStatus) -> list[str]:
    return [finding.kind for finding in differences(before, now)]


def test_rates_are_of_the_time_between_two_samples() -> None:
    history = History()
    first = history.add(1.0, [node()]).nodes["node1"]
    assert (first.commits_per_second, first.disk_used_percent) == (None, 75.0)
    second = history.add(6.0, [later(node())]).nodes["node1"]
    assert (second.commits_per_second, second.bytes_per_second) == (10.0, 1000)
    assert second.cpu_percent == 10.0
    assert second.replication_seconds == 0.2, "0.4 * 6 less 0.5 * 4, of two changes"


def test_a_node_that_was_started_anew_has_no_rate_at_first() -> None:
    history = History()
    history.add(1.0, [later(node())])
    anew = history.add(6.0, [node(figures=Figures(uptime_seconds=1.0))]).nodes["node1"]
    assert (anew.commits_per_second, anew.cpu_percent) == (None, None)
    assert anew.lag == 0


def test_a_node_that_does_not_answer_is_a_gap() -> None:
    sample = History().add(1.0, [NodeStatus("node1", reachable=False)])
    assert sample.nodes["node1"] == Reading()


def test_the_ring_forgets_the_oldest() -> None:
    history = History(capacity=3)
    for at in range(5):
        history.add(float(at), [node()])
    assert [sample.at for sample in history.since(-1.0)] == [2.0, 3.0, 4.0]
    assert [sample.at for sample in history.since(3.0)] == [4.0]


def test_after_the_clock_was_put_back_times_still_rise() -> None:
    history = History()
    for at in (1.0, 6.0, 11.0, 5.0):
        history.add(at, [node()])
    assert [sample.at for sample in history.since(0.0)] == [1.0, 5.0]


def test_what_happened_between_two_pictures_is_told() -> None:
    here, there = node(), node("node2")
    both = cluster(here, there)
    assert kinds(both, both) == []
    assert kinds(both, cluster(here, there, leader=None)) == ["leader_lost", "quorum_lost"]
    assert kinds(both, cluster(here, there, leader="node2")) == ["leader_changed"]
    gone = NodeStatus("node2", reachable=False)
    assert kinds(both, cluster(here, gone)) == ["node_down"]
    assert kinds(cluster(here, gone), both) == ["node_up"]
    draining = replace(there, draining=True, ready=False)
    assert kinds(both, cluster(here, draining)) == ["drain_started"]
    assert kinds(cluster(here, draining), both) == ["drain_ended"]
    assert kinds(both, cluster(here, replace(there, ready=False))) == ["node_not_ready"]
    assert kinds(both, cluster(here)) == ["member_removed"]
    assert kinds(cluster(here), both) == ["member_added"]


def test_a_busy_folder_does_not_push_the_other_events_out() -> None:
    events = Events()
    events.add([Finding("leader_changed", "node1 leads.", "node1")])
    events.add([Finding("files_changed", "1 change in the folder.")] * (KEPT + 1))
    latest = events.latest()
    assert latest[0].finding.kind == "leader_changed"
    assert len(latest) == 1 + FILE_EVENTS_KEPT
    assert events.after(latest[-2].id) == latest[-1:]


def test_changes_are_counted_with_the_first_few_by_name() -> None:
    changes = FileChanges(lambda path: None)
    changes.note([b"a", b"b"])
    changes.note([b"c", b"d"])
    (found,) = changes.findings()
    assert found.text == "4 changes in the folder, these and others:"
    assert found.paths == ("a", "b", "c")
    assert changes.findings() == []


def test_a_path_that_changes_again_is_named_once() -> None:
    changes = FileChanges(lambda path: None)
    for path in (b"b", b"a", b"b", b"b"):
        changes.note([path])
    (found,) = changes.findings()
    assert (found.text, found.paths) == ("4 changes in the folder.", ("b", "a"))


def test_a_conflict_copy_is_told_when_it_comes_and_not_when_it_goes() -> None:
    entry = Entry(COPY, Kind.FILE, 1, 0o644, 1, b"d" * 32, b"", 7, "node2")
    there = {COPY: entry}
    changes = FileChanges(there.get)
    changes.note([COPY])
    conflict, changed = changes.findings()
    assert (conflict.kind, conflict.node_id, conflict.paths) == (
        "conflict",
        "node2",
        (COPY.decode(),),
    )
    assert changed.kind == "files_changed"
    there.clear()
    changes.note([COPY])
    assert [found.kind for found in changes.findings()] == ["files_changed"]


class Asked:
    """Counts how often all nodes are asked; somebody may be looking."""

    def __init__(self) -> None:
        self.times = 0
        self.mark: object = 0
        self.looking = False
        self.files = 0
        self.fails = False

    def cluster(self) -> ClusterStatus:
        if self.fails:
            raise OSError("on purpose")
        self.times += 1
        return cluster(node())

    def observed(self, observation: object) -> None:
        self.files += sum(e.finding.kind == "files_changed" for e in observation.events)  # type: ignore[attr-defined]


def observer(asked: Asked, changes: FileChanges) -> Observer:
    made = Observer(asked.cluster, lambda: asked.mark, changes, threading.Event())
    made.tell(asked)
    return made


def test_the_others_are_asked_when_something_changes_here_and_else_for_samples() -> None:
    asked = Asked()
    made = observer(asked, FileChanges(lambda path: None))
    for _ in range(20):
        made.look()
    at_first = asked.times
    assert at_first == 3
    asked.mark = "another leader"
    for _ in range(20):
        made.look()
    assert asked.times == at_first + 3
    assert len(made.history.since(0)) == 1


def test_what_could_not_be_told_is_told_later() -> None:
    asked, changes = Asked(), FileChanges(lambda path: None)
    made = observer(asked, changes)
    made.look()
    asked.looking = True
    changes.note([b"a"])
    asked.fails = True
    with pytest.raises(OSError, match="on purpose"):
        made.look()
    asked.fails = False
    made.look()
    assert asked.files == 1


def test_changed_files_are_told_at_once_only_if_somebody_looks() -> None:
    asked, changes = Asked(), FileChanges(lambda path: None)
    made = observer(asked, changes)
    made.look()
    changes.note([b"a"])
    made.look()
    assert asked.files == 0
    asked.looking = True
    made.look()
    assert asked.files == 1
    changes.note([b"b"])
    made.look()
    assert asked.files == 1, "of a busy folder now and then"
