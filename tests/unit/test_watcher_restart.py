"""Three-way comparison: the disk, what the node knew, and what the cluster agreed on meanwhile."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from watcher_node import Node, wait_until

from pickbox.changes import ABSENT, Delete, Kind, Put
from pickbox.storage.digest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that is down, with ``a`` and ``d/b`` known at versions 1 and 3."""
    node = Node(tmp_path)
    (node.files / "a").write_bytes(b"a")
    with node.running():
        (node.files / "d").mkdir()
        (node.files / "d" / "b").write_bytes(b"b")
        node.wait_for_peace()
    assert {e.path: e.version for e in node.cluster.under(b"")} == {b"a": 1, b"d": 2, b"d/b": 3}
    node.cluster.submissions.clear()
    return node


def test_what_changed_while_the_node_was_down_is_found(node: Node) -> None:
    (node.files / "a").write_bytes(b"edited")
    (node.files / "d" / "b").unlink()
    (node.files / "new").write_bytes(b"new")
    with node.running():
        node.wait_for_peace()
    changes = {change.path: change for change in node.cluster.changes()}
    assert {path: type(change) for path, change in changes.items()} == {
        b"a": Put,
        b"d/b": Delete,
        b"new": Put,
    }
    bases = {change.path: change.base for change in changes.values() if not isinstance(change, str)}  # type: ignore[union-attr]
    assert bases == {b"a": 1, b"d/b": 3, b"new": ABSENT}


def test_an_offline_edit_of_what_changed_elsewhere_too_is_a_conflict(node: Node) -> None:
    entry = node.cluster.write_elsewhere(b"a", b"elsewhere")
    (node.files / "a").write_bytes(b"here")
    with node.running():
        wait_until(lambda: node.counts.conflicts)
        wait_until(lambda: b"a" in node.placer.paths)
    [change] = node.cluster.changes()
    assert isinstance(change, Put)
    assert change.base == 1
    assert node.cluster.get(b"a") == entry
    row = node.state.get(b"a")
    assert row is not None
    assert row.digest == digest_bytes(b"here")
    assert row.version < entry.version
    assert row.matches((node.files / "a").stat())
    assert any(b"sync-conflict" in path for path in node.placer.paths)


def test_an_offline_delete_of_what_changed_elsewhere_gives_way_to_the_edit(node: Node) -> None:
    node.cluster.write_elsewhere(b"a", b"elsewhere")
    (node.files / "a").unlink()
    with node.running():
        wait_until(lambda: b"a" in node.placer.paths)
    assert node.cluster.changes() == []
    assert node.state.get(b"a") is None


def test_a_delete_that_loses_against_an_edit_is_dropped_and_placed_again(node: Node) -> None:
    with node.running() as watcher:
        node.cluster.has_leader = False
        (node.files / "a").unlink()
        wait_until(lambda: "no-leader" in node.counts.failures)
        node.cluster.write_elsewhere(b"a", b"elsewhere")
        node.cluster.has_leader = True
        wait_until(lambda: b"a" in node.placer.paths and watcher.idle())
    assert node.cluster.get(b"a").digest == digest_bytes(b"elsewhere")  # type: ignore[union-attr]


def test_what_changed_elsewhere_is_left_to_the_placer(node: Node) -> None:
    node.cluster.write_elsewhere(b"a", b"elsewhere")
    node.cluster.write_elsewhere(b"other", b"elsewhere")
    node.cluster.delete_elsewhere(b"d/b")
    with node.running():
        assert sorted(node.placer.paths) == [b"a", b"d/b", b"other"]
    assert node.cluster.changes() == []


def test_an_echo_is_told_by_its_content_and_proposes_nothing(node: Node) -> None:
    with node.running() as watcher:
        entry = node.cluster.write_elsewhere(b"placed", b"content", mtime_ns=12345)
        staged = node.data / "staged"
        staged.write_bytes(b"content")
        staged.chmod(entry.mode)
        os.utime(staged, ns=(entry.mtime_ns, entry.mtime_ns))
        staged.rename(node.files / "placed")
        wait_until(lambda: node.state.get(b"placed") is not None and watcher.idle())
        row = node.state.get(b"placed")
        assert row is not None
        assert row.version == entry.version
    assert node.cluster.changes() == []


def test_the_same_content_on_a_fresh_node_is_adopted_without_a_change(node: Node) -> None:
    node.state.forget(node.state.under(b""))
    with node.running():
        pass
    assert node.cluster.changes() == []
    assert {row.path: row.version for row in node.state.under(b"")} == {b"a": 1, b"d": 2, b"d/b": 3}


def test_an_answer_that_was_lost_is_not_proposed_again(node: Node) -> None:
    with node.running() as watcher:
        node.cluster.lose_next_answer = True
        (node.files / "a").write_bytes(b"edited")
        wait_until(lambda: node.counts.failures and watcher.idle())
    assert len(node.cluster.changes()) == 1
    assert node.state.get(b"a").version == 4  # type: ignore[union-attr]


def test_without_a_leader_changes_wait_and_then_go(node: Node) -> None:
    with node.running() as watcher:
        node.cluster.has_leader = False
        (node.files / "a").write_bytes(b"edited")
        wait_until(lambda: len(node.counts.failures) > 2)
        assert not watcher.idle()
        node.cluster.has_leader = True
        node.wait_for_peace()


def test_a_rename_while_the_node_was_down_is_found_as_one(node: Node) -> None:
    (node.files / "a").rename(node.files / "renamed")
    with node.running():
        node.wait_for_peace()
    [submission] = node.cluster.submissions
    assert {change.path for change in submission} == {b"a", b"renamed"}


def test_scan_done_is_false_until_the_scan_has_looked_everywhere(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert not node.watcher.scan_done
    with node.running(settled=False) as watcher:
        wait_until(lambda: watcher.scan_done)
        assert node.counts.scans == ["start"]


def test_a_row_that_lags_behind_is_only_a_reason_to_place(node: Node) -> None:
    row = node.state.get(b"a")
    assert row is not None
    node.state.put([replace(row, version=0)])
    with node.running():
        assert node.placer.paths == [b"a"]
    assert node.cluster.changes() == []


def emptied(node: Node, count: int, *, but: int = 0) -> None:
    """Fill the folder with `count` files, all known, and remove all `but` some, unseen."""
    with node.running():
        for number in range(count):
            (node.files / f"f{number:04}").write_bytes(b"%d" % number)
        node.wait_for_peace()
    node.cluster.submissions.clear()
    for number in range(but, count):
        (node.files / f"f{number:04}").unlink()


def test_most_files_gone_unseen_are_held_until_somebody_approves(node: Node) -> None:
    emptied(node, 150)
    with node.running() as watcher:
        assert watcher.held_deletes().count == 150
        assert watcher.held_deletes().known == 153
        assert watcher.held_deletes().examples[0] == "f0000"
        [alarm] = watcher.alarms()
        assert alarm.startswith("150 of 153 paths vanished")
        node.scan()
        assert node.cluster.changes() == []
        assert watcher.approve_deletes() == 150
        node.wait_for_peace()
        assert watcher.alarms() == []
    assert node.cluster.paths() == [b"a", b"d", b"d/b"]


def test_held_deletes_can_be_undone(node: Node) -> None:
    emptied(node, 150)
    with node.running() as watcher:
        assert watcher.restore_deletes() == 150
        assert sorted(node.placer.paths) == [b"f%04d" % number for number in range(150)]
        assert watcher.held_deletes().count == 0
        node.scan()
    assert node.cluster.changes() == []
    assert node.state.count() == 3


def test_held_files_that_come_back_are_held_no_more(node: Node) -> None:
    (node.data / "aside").mkdir()
    emptied(node, 150)
    with node.running() as watcher:
        for number in range(150):
            (node.files / f"f{number:04}").write_bytes(b"%d" % number)
        wait_until(lambda: watcher.held_deletes().count == 0)
        node.wait_for_peace()
    assert not any(isinstance(change, Delete) for change in node.cluster.changes())


@pytest.mark.parametrize(("count", "but"), [(100, 0), (300, 155)])
def test_few_files_gone_unseen_are_believed(node: Node, count: int, but: int) -> None:
    emptied(node, count, but=but)
    with node.running() as watcher:
        node.wait_for_peace()
        assert watcher.held_deletes().count == 0
    assert len(node.cluster.changes()) == count - but


def test_everything_renamed_unseen_is_not_a_mass_delete(node: Node) -> None:
    emptied(node, 150, but=150)
    (node.files / "sub").mkdir()
    for number in range(150):
        (node.files / f"f{number:04}").rename(node.files / "sub" / f"f{number:04}")
    with node.running() as watcher:
        assert watcher.held_deletes().count == 0
        node.wait_for_peace()


def test_a_folder_without_its_marker_proposes_no_deletes(node: Node) -> None:
    with node.running() as watcher:
        shutil.move(node.files / ".pickbox", node.data / "aside")
        (node.files / "a").unlink()
        wait_until(lambda: not watcher.intact())
        assert "marker" in watcher.alarms()[0]
        assert node.cluster.changes() == []
        (node.files / "a").write_bytes(b"again")
        shutil.move(node.data / "aside", node.files / ".pickbox")
        wait_until(watcher.intact)
        node.wait_for_peace()
        assert watcher.alarms() == []
    assert [type(change) for change in node.cluster.changes()] == [Put]


def test_a_replaced_folder_proposes_nothing_until_the_right_one_is_back(node: Node) -> None:
    with node.running() as watcher:
        node.files.rename(node.data / "away")
        node.files.mkdir()
        wait_until(lambda: not watcher.intact())
        (node.files / "foreign").write_bytes(b"1")
        node.files.rename(node.data / "foreign")
        (node.data / "away").rename(node.files)
        wait_until(lambda: watcher.intact() and "folder-intact-again" in node.counts.scans)
        (node.files / "a").write_bytes(b"seen again")
        node.wait_for_peace()
    assert [change.path for change in node.cluster.changes()] == [b"a"]


def test_a_known_directory_that_became_a_file_loses_its_contents_first(node: Node) -> None:
    shutil.rmtree(node.files / "d")
    (node.files / "d").write_bytes(b"a file now")
    with node.running():
        node.wait_for_peace()
    changes = node.cluster.changes()
    assert [(type(change), change.path) for change in changes] == [(Delete, b"d/b"), (Put, b"d")]
    assert isinstance(changes[1], Put)
    assert (changes[1].kind, changes[1].base) == (Kind.FILE, 2)


def test_a_file_over_a_directory_that_others_filled_gives_way_to_it(node: Node) -> None:
    node.cluster.write_elsewhere(b"d/new", b"elsewhere")
    shutil.rmtree(node.files / "d")
    (node.files / "d").write_bytes(b"a file now")
    with node.running():
        wait_until(lambda: node.counts.conflicts)
    node.placer.paths.clear()
    with node.running():
        assert b"d" in node.placer.paths
    row, entry = node.state.get(b"d"), node.cluster.get(b"d")
    assert row is not None
    assert entry is not None
    assert row.version < entry.version


def test_what_was_placed_and_not_booked_before_a_crash_is_no_edit(node: Node) -> None:
    """Placed as version 4, and the catalog is at 5 when the node starts again."""
    placed = node.cluster.write_elsewhere(b"a", b"elsewhere")
    node.state.announce([placed])
    (node.files / "a").write_bytes(b"elsewhere")
    (node.files / "a").chmod(placed.mode)
    os.utime(node.files / "a", ns=(placed.mtime_ns, placed.mtime_ns))
    node.cluster.write_elsewhere(b"a", b"elsewhere again")
    with node.running():
        wait_until(lambda: b"a" in node.placer.paths)
    assert node.cluster.changes() == []
    row = node.state.get(b"a")
    assert row is not None
    assert row.version == placed.version


def lose_the_answers_of_a_run(node: Node, done: Callable[[], object]) -> None:
    """As a kill between the commit of what was proposed and the booking of it."""
    node.cluster.loses_answers = True
    with node.running(settled=False):
        wait_until(done)
    node.cluster.loses_answers = False


def test_an_edit_after_one_that_was_committed_and_not_booked_is_no_conflict(node: Node) -> None:
    (node.files / "a").write_bytes(b"first")
    lose_the_answers_of_a_run(node, lambda: node.cluster.changes(b"a"))
    committed = node.cluster.get(b"a")
    assert committed is not None
    (node.files / "a").write_bytes(b"second")
    with node.running():
        node.wait_for_peace()
    assert node.counts.conflicts == 0
    second = node.cluster.changes(b"a")[-1]
    assert isinstance(second, Put)
    assert second.base == committed.version


def test_a_delete_after_an_edit_that_was_committed_and_not_booked_stays(node: Node) -> None:
    (node.files / "a").write_bytes(b"edited")
    lose_the_answers_of_a_run(node, lambda: node.cluster.changes(b"a"))
    (node.files / "a").unlink()
    with node.running():
        wait_until(lambda: node.cluster.get(b"a") is None)
    assert b"a" not in node.placer.paths


def test_a_file_made_after_a_delete_that_was_committed_and_not_booked_is_new(node: Node) -> None:
    (node.files / "a").unlink()
    lose_the_answers_of_a_run(node, lambda: node.cluster.changes(b"a"))
    (node.files / "a").write_bytes(b"anew")
    with node.running():
        node.wait_for_peace()
    made = node.cluster.changes(b"a")[-1]
    assert isinstance(made, Put)
    assert made.base == ABSENT


def test_an_edit_that_was_proposed_and_never_committed_is_proposed_anew(node: Node) -> None:
    node.cluster.never_commits = True
    (node.files / "a").write_bytes(b"edited")
    with node.running(settled=False):
        wait_until(node.state.proposed)
    node.cluster.never_commits = False
    with node.running():
        node.wait_for_peace()
    assert node.cluster.submissions[0] == ()  # the first one's id is taken
    [change] = node.cluster.changes(b"a")
    assert isinstance(change, Put)
    assert change.base == 1
    assert node.state.proposed() == {}


def test_an_edit_of_what_was_announced_and_never_placed_is_a_conflict(node: Node) -> None:
    placed = node.cluster.write_elsewhere(b"a", b"elsewhere")
    node.state.announce([placed])
    (node.files / "a").write_bytes(b"here")
    with node.running():
        wait_until(lambda: node.counts.conflicts)
    [change] = node.cluster.changes()
    assert isinstance(change, Put)
    assert change.base == 1
