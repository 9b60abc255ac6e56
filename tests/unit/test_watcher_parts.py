"""The parts of the watcher that can be held against a simpler account of the same."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from watcher_node import Node

from pickbox.watcher.dirty import DirtySet
from pickbox.watcher.guard import DeleteGuard
from pickbox.watcher.scan import Walk

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.sampled_from([b"a", b"a.b", b"a-", b"a0", b"b", b"\xff", b"a b"])


@settings(max_examples=50)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_a_walk_comes_in_the_order_of_path_bytes(tmp_path_factory, paths) -> None:  # type: ignore[no-untyped-def]
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    for parts in paths:
        os.makedirs(os.path.join(root, *parts), exist_ok=True)
    walk = Walk(root)
    seen = [path for path, _ in walk]
    expected = {b"/".join(parts[: n + 1]) for parts in paths for n in range(len(parts))}
    assert seen == sorted(expected)
    assert walk.directories == len(expected) + 1


def test_ten_thousand_unchanged_files_are_scanned_in_well_under_a_second(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for directory in range(100):
        (node.files / f"d{directory}").mkdir()
        for number in range(100):
            (node.files / f"d{directory}" / f"f{number}").touch()
    with node.running() as watcher:
        began = time.process_time()
        result = watcher._scanner.scan()
        seconds = time.process_time() - began
        assert (result.marked, result.directories) == (0, 102)
    assert seconds < 0.6


def test_marks_of_one_path_become_one_look_at_the_earliest_time() -> None:
    dirty = DirtySet()
    dirty.mark(b"a", delay=60.0)
    dirty.mark(b"a")
    dirty.mark(b"a", delay=30.0)
    assert [item.path for item in dirty.take(10)] == [b"a"]
    dirty.release([b"a"])
    assert dirty.take(10) == []
    assert dirty.idle()


def test_a_path_in_hand_is_not_handed_out_again_and_its_marks_are_kept() -> None:
    dirty = DirtySet()
    dirty.mark(b"a")
    [item] = dirty.take(10)
    dirty.mark(b"a", explained=True)
    assert dirty.take(10) == []
    dirty.release([item.path])
    [again] = dirty.take(10)
    assert again.explained


def test_a_mark_wakes_whoever_waits_and_a_later_one_does_not_delay_it() -> None:
    dirty = DirtySet()
    dirty.mark(b"far", delay=60.0)
    woken = threading.Event()
    threading.Thread(target=lambda: (dirty.wait(30.0), woken.set()), daemon=True).start()
    dirty.mark(b"near")
    assert woken.wait(10.0)


def test_a_deleted_directory_explains_all_that_was_in_it() -> None:
    dirty = DirtySet()
    dirty.mark(b"a/b", explained=True)
    dirty.mark(b"c")
    assert dirty.explains(b"a/b/c/d")
    assert not dirty.explains(b"a")
    assert not dirty.explains(b"a/bc")
    assert not dirty.explains(b"c")


def test_paths_stay_held_when_some_of_them_are_put_back_by_hand() -> None:
    guard = DeleteGuard()
    missing = [b"%d" % number for number in range(150)]
    assert guard.judge(missing, renamed=[], known=150) == set()
    assert guard.judge(missing[:20], renamed=[], known=150) == set()
    assert guard.held().count == 20
    assert not guard.allows(missing[0], explained=False)
    assert guard.allows(missing[0], explained=True)
    assert guard.held().count == 19
