"""Lost events, missing watches, ignore rules, large files, and files that never settle."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, Mask, WatchDescriptor
from watcher_node import Node, wait_until

from pickbox.changes import Put
from pickbox.errors import DiskFull, NotStaged
from pickbox.storage.digest import digest_bytes
from pickbox.watcher import events, watch_limit
from pickbox.watcher.events import Events, Inotify

if TYPE_CHECKING:
    from pickbox.storage.disk import DiskGuard


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


QUEUE_LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")


def test_after_an_overflow_everything_is_found_by_a_scan(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = threading.Event()
    original = Inotify.read_events

    def read_late(inotify: Inotify, **options: Any) -> list[InotifyEvent]:
        reading.wait()
        return original(inotify, **options)

    monkeypatch.setattr(Inotify, "read_events", read_late)
    (node.files / "busy").mkdir()
    with node.running():
        for number in range(int(QUEUE_LIMIT.read_text())):
            os.utime(node.files / "busy", ns=(number, number))
            os.utime(node.files, ns=(number, number))  # one event of each, or they are merged
        for directory in range(40):
            (node.files / f"d{directory}").mkdir()
            for number in range(2):
                (node.files / f"d{directory}" / f"f{number}").write_bytes(b"1")
        reading.set()
        wait_until(lambda: "overflow" in node.counts.scans)
        node.wait_for_peace()
        assert len(node.cluster.paths()) == 121
        (node.files / "d7" / "late").write_bytes(b"1")  # the directories are watched again
        wait_until(lambda: node.cluster.get(b"d7/late"))
        assert node.counts.overflows == 1


def test_an_overflow_puts_no_further_events_into_the_queue(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal of a watch is an event too: with many directories, the next overflow."""
    removed: list[Any] = []
    (node.files / "d").mkdir()
    with node.running() as watcher, monkeypatch.context() as patch:
        patch.setattr(Inotify, "remove_callbacks", lambda _, callbacks: removed.extend(callbacks))
        assert watcher._events is not None
        mask = Mask(InotifyConstants.IN_Q_OVERFLOW)
        watcher._events.inotify.handle_event(InotifyEvent(WatchDescriptor(-1), mask, 0, b""))
        assert node.counts.overflows == 1
        assert not removed
        patch.undo()
        wait_until(lambda: "overflow" in node.counts.scans)


def test_a_watch_limit_is_noticed_told_and_made_up_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (node.files / f"d{number}").mkdir()
    original, added = Inotify.add_callback, []

    def refuse_after_ten(self: Inotify, path: bytes, *rest: Any) -> WatchDescriptor:
        if len(added) >= 10:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        added.append(path)
        return original(self, path, *rest)

    monkeypatch.setattr(Inotify, "add_callback", refuse_after_ten)
    monkeypatch.setattr(watch_limit, "_limit", lambda: 1000)
    monkeypatch.setattr("pickbox.watcher.watcher.DEAF_INTERVAL", 0.2)
    with node.running() as watcher:
        wait_until(watcher.alarms)
        [alarm] = watcher.alarms()
        assert alarm.startswith("12 of 22 directories are not watched")
        assert "is 1000: set it to 1265 or more" in alarm
        for number in range(20):
            (node.files / f"d{number}" / "file").write_bytes(b"1")
        node.wait_for_peace()
        assert len(node.cluster.paths()) == 40


def test_all_directories_watched_is_no_alarm(node: Node) -> None:
    with node.running() as watcher:
        for number in range(20):
            (node.files / f"d{number}").mkdir()
        node.wait_for_peace()
        node.scan()
        assert watch_limit.watches() == watch_limit.count_directories(node.tree.root) == 22
        assert watcher.alarms() == []


def test_a_folder_that_cannot_be_watched_is_scanned(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Events) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(Events, "start", refuse)
    monkeypatch.setattr("pickbox.watcher.watcher.DEAF_INTERVAL", 0.2)
    with node.running() as watcher:
        assert "max_user_watches" in watcher.alarms()[0]
        (node.files / "a").write_bytes(b"1")
        node.wait_for_peace()
        monkeypatch.undo()
        wait_until(lambda: not watcher.alarms())


def test_a_dead_observer_is_replaced(node: Node) -> None:
    with node.running() as watcher:
        assert watcher._events is not None
        watcher._events.stop()
        wait_until(lambda: "watching-anew" in node.counts.scans)
        (node.files / "a").write_bytes(b"1")
        node.wait_for_peace()
        assert watcher.alive()
    assert not watcher.alive()


def test_editors_temporary_files_are_ignored_and_the_rest_of_their_kind_is_not(node: Node) -> None:
    ignored = ["a~", ".a.swp", ".#a", "a.tmp", "#a#", ".goutputstream-X1", ".nfs0001"]
    kept = ["a", ".swp", "tmp", ".hidden", "a.tmp.txt", "4913", "#a"]
    with node.running():
        for name in (*ignored, *kept):
            (node.files / name).write_bytes(b"1")
        wait_until(lambda: len(node.cluster.paths()) >= len(kept))
        node.scan()
        assert node.cluster.paths() == sorted(map(os.fsencode, kept))


def test_the_ignore_file_is_obeyed_at_once_and_itself_replicated(node: Node) -> None:
    with node.running():
        (node.files / "build").mkdir()
        (node.files / "build" / "out").write_bytes(b"1")
        (node.files / "a.tmp").write_bytes(b"1")
        (node.files / "keep.log").write_bytes(b"1")
        wait_until(lambda: len(node.cluster.paths()) == 3)
        (node.files / ".pickboxignore").write_bytes(b"*.log\n!*.tmp\nbuild/\n.pickbox\n")
        wait_until(lambda: node.cluster.get(b"a.tmp") and node.cluster.get(b".pickboxignore"))
        done = len(node.cluster.submissions)
        (node.files / "keep.log").unlink()
        (node.files / "build" / "out").write_bytes(b"2")
        (node.files / "new.log").write_bytes(b"3")
        node.scan()
        assert len(node.cluster.submissions) == done
        assert node.placer.paths == []
        (node.files / ".pickboxignore").unlink()
        wait_until(lambda: node.cluster.get(b"new.log") and not node.cluster.get(b"keep.log"))


def test_the_nodes_own_directory_cannot_be_un_ignored(node: Node) -> None:
    with node.running():
        (node.files / ".pickboxignore").write_bytes(b"!.pickbox\n!.pickbox/**\n")
        (node.files / ".pickbox" / "note").write_bytes(b"1")
        wait_until(lambda: node.cluster.get(b".pickboxignore"))
        node.watcher.mark(b".pickbox/note")
        node.watcher.mark(b".pickbox")
        node.scan()
        assert node.cluster.paths() == [b".pickboxignore"]


def test_a_large_file_is_staged_and_offered_from_where_it_is(node: Node) -> None:
    offered: list[bytes | None] = []
    node.cluster.while_staging = lambda put: offered.append(node.watcher.offered(put.digest))
    with node.running():
        (node.files / "big").write_bytes(b"x" * 100_000)
        node.wait_for_peace()
        assert node.watcher.offered(digest_bytes(b"x" * 100_000)) is None
    [change] = node.cluster.changes()
    assert isinstance(change, Put)
    assert (change.size, change.inline, change.holders) == (100_000, None, ("node1", "node2"))
    assert offered == [b"big"]


def test_a_large_file_does_not_keep_small_ones_waiting(node: Node) -> None:
    release = threading.Event()
    node.cluster.while_staging = lambda put: release.wait(10) or None
    with node.running() as watcher:
        (node.files / "big").write_bytes(b"x" * 100_000)
        (node.files / "small").write_bytes(b"1")
        wait_until(lambda: node.cluster.get(b"small"))
        assert not watcher.idle()
        assert node.cluster.get(b"big") is None
        release.set()
        node.wait_for_peace()


def test_a_file_edited_while_it_is_staged_ends_as_it_is_on_the_disk(node: Node) -> None:
    def edit_once(put: Put) -> None:
        if put.size == 100_000:
            (node.files / "big").write_bytes(b"y" * 100_001)
            raise NotStaged("the content is not there any more")

    node.cluster.while_staging = edit_once
    with node.running():
        (node.files / "big").write_bytes(b"x" * 100_000)
        node.wait_for_peace()
        assert node.cluster.get(b"big").size == 100_001  # type: ignore[union-attr]


def test_an_edit_under_a_slow_staging_is_noticed_long_before_it_times_out(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.large.FIRST_SLICE", 0.1)

    def stage_all(puts: Any, *, timeout: float) -> list[Put]:
        if puts[0].digest != digest_bytes((node.files / "big").read_bytes()):
            threading.Event().wait(timeout)  # peers ask in vain for what is not there any more
            raise NotStaged("no majority")
        if puts[0].size == 100_000:
            (node.files / "big").write_bytes(b"y" * 100_001)
            return stage_all(puts, timeout=timeout)
        return list(puts)

    monkeypatch.setattr(node.cluster, "stage_all", stage_all)
    with node.running():
        (node.files / "big").write_bytes(b"x" * 100_000)
        wait_until(lambda: node.cluster.get(b"big"), timeout=20.0)
        assert node.cluster.get(b"big").size == 100_001  # type: ignore[union-attr]


def test_large_files_that_wait_are_staged_and_proposed_in_groups(node: Node) -> None:
    release = threading.Event()
    node.cluster.while_staging = lambda put: release.wait(30) or None
    for number in range(60):
        (node.files / f"photo{number:02}").write_bytes(os.urandom(100_000))
    with node.running(settled=False) as watcher:
        wait_until(lambda: watcher.scan_done and node.state.count() == 0)
        wait_until(lambda: all(item in watcher._dirty._in_hand for item in node.on_disk()))
        release.set()
        node.wait_for_peace()
    assert len(node.cluster.changes()) == 60
    assert len(node.cluster.submissions) <= 4 + 2
    assert max(map(len, node.cluster.submissions)) <= 32


def test_a_file_that_cannot_be_staged_does_not_keep_its_company(node: Node) -> None:
    for number in range(10):
        (node.files / f"photo{number}").write_bytes(os.urandom(100_000))
    refused = digest_bytes((node.files / "photo5").read_bytes())

    def refuse(put: Put) -> None:
        if put.digest == refused:
            raise NotStaged("no majority")

    node.cluster.while_staging = refuse
    with node.running(settled=False):
        wait_until(lambda: len(node.cluster.paths()) == 9)
        node.cluster.while_staging = lambda put: None
        node.wait_for_peace()


def test_a_large_file_that_cannot_be_staged_is_tried_again(node: Node) -> None:
    node.cluster.can_stage = False
    with node.running():
        (node.files / "big").write_bytes(b"x" * 100_000)
        wait_until(lambda: node.counts.failures.count("not-staged") >= 2)
        node.cluster.can_stage = True
        node.wait_for_peace()


def test_a_file_kept_open_is_taken_when_it_stands_still(node: Node) -> None:
    node.settings = {"settle_limit": 1.0, "settle_seconds": 0.05}
    content = b"line\n" * 20_000
    with node.running(), (node.files / "log").open("wb", buffering=0) as writer:
        writer.write(content)
        wait_until(lambda: node.cluster.get(b"log"))
        assert node.cluster.get(b"log").digest == digest_bytes(content)  # type: ignore[union-attr]
        copy = node.data / "staging" / digest_bytes(content).hex()
        assert copy.read_bytes() == content


def test_a_file_kept_open_is_not_copied_into_the_reserve(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.failures.FIRST_DELAY", 0.1)
    node.settings = {"settle_limit": 1.0, "settle_seconds": 0.05}
    full = threading.Event()

    def check(_: DiskGuard, extra: int = 0) -> None:
        if full.is_set():
            raise DiskFull(f"{extra} bytes do not fit")

    monkeypatch.setattr("pickbox.storage.disk.DiskGuard.check", check)
    full.set()
    with node.running() as watcher, (node.files / "log").open("wb", buffering=0) as writer:
        writer.write(b"line\n" * 20_000)
        wait_until(watcher.errors)
        assert watcher.errors() == [(b"log", "100000 bytes do not fit")]
        assert os.listdir(node.data / "staging") == []
        full.clear()
        wait_until(lambda: node.cluster.get(b"log") and not watcher.errors())


def test_a_file_that_never_stands_still_is_listed_as_busy(node: Node) -> None:
    node.settings = {"settle_limit": 1.0, "settle_seconds": 0.3}
    with node.running() as watcher, (node.files / "log").open("wb", buffering=0) as writer:

        def busy() -> list[bytes]:
            writer.write(b"line\n")
            return watcher.busy()

        wait_until(busy)
        assert busy() == [b"log"]
        assert node.cluster.get(b"log") is None
        assert watcher.idle()


def test_without_leases_a_file_settles_by_standing_still(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.settle.has_writer", lambda file: None)
    with node.running():
        (node.files / "a").write_bytes(b"1")
        node.wait_for_peace()
        assert len(node.cluster.changes()) == 1


def test_a_writer_that_opens_the_file_while_it_is_leased_does_us_no_harm() -> None:
    """SIGIO, which the kernel sends by default, would end the process."""
    script = (
        "import fcntl, os, subprocess, sys, tempfile\n"
        "from pickbox.storage import leases\n"
        "path = tempfile.NamedTemporaryFile(delete=False).name\n"
        "fcntl_real = fcntl.fcntl\n"
        "def held(fd, command, value):\n"
        "    result = fcntl_real(fd, command, value)\n"
        "    if (command, value) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):\n"
        "        writer = subprocess.Popen([sys.executable, '-c', 'open(%r, \"ab\")' % path])\n"
        "        while fcntl_real(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK:\n"
        "            assert writer.poll() is None\n"
        "    return result\n"
        "leases.fcntl.fcntl = held\n"
        "print(leases.has_writer(open(path, 'rb')))\n"
        "os.unlink(path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_an_unreadable_file_is_listed_and_taken_once_it_can_be_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, locked = node.tree.open_file, {b"secret"}

    def refuse(path: bytes) -> Any:
        if path in locked:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return original(path)

    monkeypatch.setattr(node.tree, "open_file", refuse)
    with node.running() as watcher:
        (node.files / "secret").write_bytes(b"1")
        (node.files / "open").write_bytes(b"2")
        wait_until(lambda: node.cluster.get(b"open") and watcher.errors() and watcher.idle())
        [(path, reason)] = watcher.errors()
        assert (path, "Permission denied" in reason) == (b"secret", True)
        locked.clear()
        node.wait_for_peace()
        assert watcher.errors() == []


def test_an_unreadable_directory_is_not_taken_for_an_empty_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.running():
        (node.files / "d").mkdir()
        (node.files / "d" / "a").write_bytes(b"1")
        node.wait_for_peace()
        original = os.scandir

        def refuse(path: Any) -> Any:
            if os.fsencode(path).endswith(b"/d"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return original(path)

        monkeypatch.setattr("pickbox.watcher.scan.os.scandir", refuse)
        node.scan()
        assert node.cluster.paths() == [b"d", b"d/a"]


def test_a_full_disk_lets_deletes_through_and_holds_new_content(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.submissions.LONGEST_PAUSE", 0.1)
    full = threading.Event()
    with node.running() as watcher:
        (node.files / "a").write_bytes(b"1")
        node.wait_for_peace()
        monkeypatch.setattr("pickbox.storage.disk.DiskGuard.ok", lambda self: not full.is_set())
        full.set()
        (node.files / "b").write_bytes(b"2")
        (node.files / "a").unlink()
        wait_until(lambda: node.cluster.paths() == [] and watcher.alarms())
        assert "disk is full" in watcher.alarms()[0]
        full.clear()
        node.wait_for_peace()
        assert node.cluster.paths() == [b"b"]
        assert watcher.alarms() == []


def test_events_of_our_own_reading_are_not_even_asked_for(node: Node) -> None:
    with node.running():
        (node.files / "a").write_bytes(b"1")
        node.wait_for_peace()
        seen = node.counts.events
        (node.files / "a").read_bytes()
        (node.files / "b").write_bytes(b"1")
        node.wait_for_peace()
        kinds = events._WANTED
    assert node.counts.events - seen <= 3
    assert not any("Open" in kind.__name__ or "NoWrite" in kind.__name__ for kind in kinds)
