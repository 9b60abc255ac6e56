"""Bringing one path of a real folder to what a real catalog says."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from privileges import give_away, without_privileges
from transport_nodes import eventually

from pickbox.changes import Entry, Kind, OnStale, Put, Submission
from pickbox.errors import DiskFull
from pickbox.known import KnownState
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.placement_steps import ContentMissing, NotYet, PlacementSteps
from pickbox.replication.placer import Placer
from pickbox.replication.swaps import StillOpen, Swaps
from pickbox.replication.transfer import Fetcher
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.placement import ChangedMeanwhile
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OLD_TIME = 1_600_000_000_123_456_789


class Here:
    """One node's volume, with a catalog that tests write."""

    def __init__(self, directory: Path) -> None:
        base = bytes(directory)
        self.files = directory / "files"
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.state = StateDatabase(base + b"/state.db")
        self.tree = FileTree(base + b"/files")
        self.tree.prepare("node1")
        self.staging = Staging(base + b"/staging")
        self.inline = InlineContent(self.staging)
        self.versions = Versions(base + b"/versions", self.state, 3600.0)
        self.content = LocalContent(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            lambda digest: None,
            "node1",
        )
        self.disk = DiskGuard(base, 0)
        self.steps = self.begin_again()
        self.index = 1

    def begin_again(self, settle_limit: float = 30.0) -> PlacementSteps:
        """The steps as a restart makes them: they know what is on the disk."""
        return PlacementSteps(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            self.catalog,
            self.content,
            self.disk,
            Swaps(self.tree, "node1", settle_limit),
        )

    def agree(self, *entries: Entry, without: tuple[bytes, ...] = ()) -> None:
        """Make the catalog say this, as the log would."""
        self.index += 1
        with self.catalog.transaction(self.index) as txn:
            for path in without:
                txn.remove(path)
            for entry in entries:
                txn.put(replace(entry, version=txn.next_version()))

    def agree_on_file(
        self, path: bytes, content: bytes, mode: int = 0o640, mtime_ns: int = OLD_TIME
    ) -> None:
        digest, size = digest_bytes(content), len(content)
        self.agree(Entry(path, Kind.FILE, size, mode, mtime_ns, digest, b"", 0, "node2"))
        if content:
            self.inline.put(digest_bytes(content), content)

    def agree_on_file_without_content(self, path: bytes) -> None:
        """A file whose content is its path, which somebody else has."""
        digest = digest_bytes(path)
        self.agree(Entry(path, Kind.FILE, len(path), 0o640, OLD_TIME, digest, b"", 0, "node2"))

    def agree_on_directory(self, path: bytes, mode: int = 0o755) -> None:
        self.agree(Entry(path, Kind.DIRECTORY, 0, mode, 0, b"", b"", 0, "node2"))

    def edit_in_place(self) -> None:
        """A person overwrites `f` with as many bytes."""
        with (self.files / "f").open("r+b") as file:
            file.write(b"x" * (self.files / "f").stat().st_size)

    def give_away(self, path: bytes) -> None:
        """Have it that another user made the file at `path`, before it was taken in."""
        row = self.state.get(path)
        assert row is not None
        give_away(os.path.join(self.tree.root, path))
        stat = os.lstat(os.path.join(self.tree.root, path))
        self.state.put([KnownState.of(path, stat, row.digest, row.version)])

    def place(self, *paths: bytes) -> None:
        for path in paths:
            self.steps.place(path)
        self.steps.flush()


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_file_is_placed_with_its_mode_and_time(here: Here) -> None:
    here.agree_on_file(b"f", b"content", 0o750)
    here.place(b"f")
    stat = (here.files / "f").stat()
    assert (here.files / "f").read_bytes() == b"content"
    assert (stat.st_mode & 0o777, stat.st_mtime_ns) == (0o750, OLD_TIME)


def test_placing_again_does_nothing(here: Here) -> None:
    here.agree_on_file(b"f", b"content")
    here.place(b"f")
    before = (here.files / "f").stat()
    assert here.steps.place(b"f") is None
    assert (here.files / "f").stat() == before


def test_a_parent_is_placed_first(here: Here) -> None:
    here.agree_on_directory(b"a", 0o711)
    here.agree_on_directory(b"a/b")
    here.agree_on_file(b"a/b/f", b"content")
    here.place(b"a/b/f")
    assert (here.files / "a/b/f").read_bytes() == b"content"
    assert (here.files / "a").stat().st_mode & 0o777 == 0o711


def test_a_link_is_placed_as_a_link(here: Here) -> None:
    target = b"/etc/passwd"
    here.agree(
        Entry(
            b"l", Kind.SYMLINK, len(target), 0o777, OLD_TIME, digest_bytes(target), target, 0, "n"
        )
    )
    here.place(b"l")
    assert os.readlink(here.files / "l") == "/etc/passwd"
    assert (here.files / "l").lstat().st_mtime_ns == OLD_TIME


def test_a_replaced_file_is_kept_for_a_while(here: Here) -> None:
    here.agree_on_file(b"f", b"first")
    here.place(b"f")
    here.agree_on_file(b"f", b"second")
    here.place(b"f")
    assert (here.files / "f").read_bytes() == b"second"
    assert [kept.digest for kept in here.versions.list(b"f")] == [digest_bytes(b"first")]


def test_a_deleted_file_is_kept_for_a_while(here: Here) -> None:
    here.agree_on_file(b"f", b"content")
    here.place(b"f")
    here.agree(without=(b"f",))
    here.place(b"f")
    assert not (here.files / "f").exists()
    kept = here.versions.open(digest_bytes(b"content"))
    assert kept is not None
    assert kept.read() == b"content"
    assert here.state.get(b"f") is None


def test_an_edit_that_nobody_has_seen_is_never_overwritten(here: Here) -> None:
    here.agree_on_file(b"f", b"first")
    here.place(b"f")
    (here.files / "f").write_bytes(b"edited")
    here.agree_on_file(b"f", b"second")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"edited"


def test_a_file_that_nobody_has_seen_is_never_deleted(here: Here) -> None:
    (here.files / "f").write_bytes(b"new")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"new"


def test_a_mode_that_nobody_has_seen_is_never_overwritten(here: Here) -> None:
    """A directory is made, its first mode is committed, and its owner sets another meanwhile."""
    (here.files / "d").mkdir(mode=0o755)
    here.agree_on_directory(b"d", 0o700)
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"d")
    assert (here.files / "d").stat().st_mode & 0o777 == 0o755


def test_content_that_is_elsewhere_is_asked_for(here: Here) -> None:
    here.agree_on_file(b"f", b"content")
    here.inline.forget(digest_bytes(b"content"))
    with pytest.raises(ContentMissing) as missing:
        here.steps.place(b"f")
    assert missing.value.entry.path == b"f"
    here.staging.put(digest_bytes(b"content"), b"content")
    here.place(b"f")
    assert (here.files / "f").read_bytes() == b"content"


def test_a_rename_moves_the_file_and_copies_nothing(here: Here) -> None:
    here.agree_on_file(b"old", b"content")
    here.place(b"old")
    inode = (here.files / "old").stat().st_ino
    here.agree_on_file(b"new", b"content")
    here.inline.forget(digest_bytes(b"content"))
    here.agree(without=(b"old",))
    here.place(b"new", b"old")
    assert (here.files / "new").stat().st_ino == inode
    assert not (here.files / "old").exists()


def test_a_file_of_another_user_is_copied_when_it_is_renamed(here: Here) -> None:
    here.agree_on_file(b"old", b"content", 0o644)
    here.place(b"old")
    here.give_away(b"old")
    here.agree_on_file(b"new", b"content", 0o600)
    here.inline.forget(digest_bytes(b"content"))
    here.agree(without=(b"old",))
    without_privileges(lambda: here.place(b"new", b"old"))
    assert (here.files / "new").read_bytes() == b"content"
    assert (here.files / "new").stat().st_mode & 0o777 == 0o600
    assert not (here.files / "old").exists()


def test_a_file_of_another_user_is_replaced_to_get_its_mode(here: Here) -> None:
    here.agree_on_file(b"f", b"content", 0o644)
    here.place(b"f")
    here.give_away(b"f")
    here.agree_on_file(b"f", b"content", 0o600)
    here.inline.forget(digest_bytes(b"content"))
    without_privileges(lambda: here.place(b"f"))
    assert (here.files / "f").read_bytes() == b"content"
    assert (here.files / "f").stat().st_mode & 0o777 == 0o600
    row = here.state.get(b"f")
    assert row is not None
    assert row.matches((here.files / "f").lstat())


def test_a_rename_that_the_state_manager_cannot_book_keeps_the_content(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.agree_on_file(b"old", b"content")
    here.place(b"old")
    here.agree_on_file(b"new", b"content")
    here.inline.forget(digest_bytes(b"content"))
    here.agree(without=(b"old",))

    def refuse(rows: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(here.state, "forget", refuse)
        with pytest.raises(sqlite3.OperationalError):
            here.steps.place(b"new")
    here.place(b"new", b"old")
    assert (here.files / "new").read_bytes() == b"content"
    assert here.state.get(b"old") is None


def test_a_second_file_of_the_same_content_is_a_file_of_its_own(here: Here) -> None:
    here.agree_on_file(b"one", b"content")
    here.place(b"one")
    here.agree_on_file(b"two", b"content")
    here.inline.forget(digest_bytes(b"content"))
    here.place(b"two")
    (here.files / "two").write_bytes(b"changed")
    assert (here.files / "one").read_bytes() == b"content"


def test_a_change_of_mode_alone_leaves_the_content_where_it_is(here: Here) -> None:
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    inode = (here.files / "f").stat().st_ino
    here.agree_on_file(b"f", b"content", 0o755)
    here.place(b"f")
    stat = (here.files / "f").stat()
    assert (stat.st_ino, stat.st_mode & 0o777) == (inode, 0o755)


@pytest.mark.parametrize("call", ["look", "utime", "chmod"])
def test_an_edit_of_the_same_size_is_not_booked_with_a_change_of_metadata(
    here: Here, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person writes into the file before we look at it again, or after one of our calls."""
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    here.agree_on_file(b"f", b"content", 0o755, OLD_TIME + 1)
    if call == "look":
        meanwhile(monkeypatch, here.tree, "set_metadata", here.edit_in_place, after=False)
    else:
        meanwhile(monkeypatch, os, call, here.edit_in_place, after=True)
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    here.steps.flush()
    row = here.state.get(b"f")
    assert row is not None
    assert not row.matches((here.files / "f").lstat())


@pytest.mark.parametrize("time_ns", [OLD_TIME + 1, -(2**62)], ids=["fine", "early"])
def test_a_time_that_the_file_system_cannot_keep_is_no_edit(
    here: Here, time_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some keep whole seconds alone; none of them every year."""
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    here.agree_on_file(b"f", b"content", 0o755, time_ns)
    real = os.utime

    def in_seconds(path: bytes, *, ns: tuple[int, int], **how: Any) -> None:
        real(path, ns=(ns[0], ns[1] // 10**9 * 10**9), **how)

    monkeypatch.setattr(os, "utime", in_seconds)
    here.place(b"f")
    row = here.state.get(b"f")
    assert row is not None
    assert row.matches((here.files / "f").lstat())


def meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    holder: object,
    name: str,
    deed: Callable[[], None],
    *,
    after: bool,
) -> None:
    """Have a person do `deed` right before or after each call of a function."""
    real = getattr(holder, name)

    def call(*args: Any, **kwargs: Any) -> None:
        if not after:
            deed()
        real(*args, **kwargs)
        if after:
            deed()

    monkeypatch.setattr(holder, name, call)


def test_a_directory_goes_after_what_is_in_it(here: Here) -> None:
    here.agree_on_directory(b"d")
    here.agree_on_file(b"d/f", b"content")
    here.place(b"d", b"d/f")
    here.agree(without=(b"d", b"d/f"))
    with pytest.raises(NotYet):
        here.steps.place(b"d")
    here.place(b"d/f", b"d")
    assert not (here.files / "d").exists()


def test_a_directory_with_something_ignored_in_it_stays_and_is_not_taken_for_new(
    here: Here,
) -> None:
    here.agree_on_directory(b"d")
    here.place(b"d")
    (here.files / "d" / "ignored~").write_bytes(b"x")
    here.agree(without=(b"d",))
    here.place(b"d")
    assert (here.files / "d" / "ignored~").exists()
    assert here.state.get(b"d") is not None
    (here.files / "d" / "ignored~").unlink()
    here.place(b"d")
    assert not (here.files / "d").exists()


def test_a_catalog_that_was_lost_removes_nothing(here: Here, tmp_path: Path) -> None:
    here.agree_on_file(b"f", b"content")
    here.place(b"f")
    again = tmp_path / "again"
    again.mkdir()
    here.steps._catalog = Catalog(str(again / "catalog.db"))
    with pytest.raises(NotYet):
        here.steps.place(b"f")
    assert (here.files / "f").exists()


def test_a_file_takes_the_place_of_an_empty_directory_and_back(here: Here) -> None:
    here.agree_on_directory(b"x")
    here.place(b"x")
    here.agree_on_file(b"x", b"content")
    here.place(b"x")
    assert (here.files / "x").read_bytes() == b"content"
    here.agree_on_directory(b"x")
    here.place(b"x")
    assert (here.files / "x").is_dir()


def test_a_parent_that_is_a_link_is_never_followed(here: Here, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (here.files / "d").symlink_to(outside)
    here.agree_on_directory(b"d")
    here.agree_on_file(b"d/f", b"content")
    with pytest.raises((NotYet, ChangedMeanwhile)):
        here.steps.place(b"d/f")
    assert list(outside.iterdir()) == []


def test_a_failed_placement_keeps_the_content(here: Here) -> None:
    here.agree_on_file(b"f", b"content")
    (here.files / "f").mkdir()
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    (here.files / "f").rmdir()
    here.place(b"f")
    assert (here.files / "f").read_bytes() == b"content"


def test_a_file_that_is_open_elsewhere_is_not_replaced(here: Here) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    here.agree_on_file(b"f", b"two")
    with (here.files / "f").open("ab", buffering=0) as application:
        with pytest.raises(StillOpen):
            here.steps.place(b"f")
        application.write(b" and a line")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"one and a line"


def test_a_file_that_was_open_elsewhere_is_replaced_once_it_is_closed(here: Here) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    here.agree_on_file(b"f", b"two")
    with (here.files / "f").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"f")
    with (here.files / "f").open("rb"):  # whoever reads it is none of our business
        here.place(b"f")
    assert (here.files / "f").read_bytes() == b"two"


@pytest.mark.parametrize("content", [b"one", b""])
def test_a_file_that_is_open_elsewhere_is_not_deleted(here: Here, content: bytes) -> None:
    here.agree_on_file(b"f", content)
    here.place(b"f")
    here.agree(without=(b"f",))
    with (here.files / "f").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"f")
    assert (here.files / "f").exists()
    here.place(b"f")
    assert not (here.files / "f").exists()


def test_a_file_that_is_open_elsewhere_is_not_renamed(here: Here) -> None:
    """What is written to it meanwhile would be taken for the content that was renamed."""
    here.agree_on_file(b"old", b"one")
    here.place(b"old")
    here.agree_on_file(b"new", b"one")
    here.inline.forget(digest_bytes(b"one"))
    here.agree(without=(b"old",))
    with (here.files / "old").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"new")
    assert os.listdir(here.files.parent / "staging") == []
    here.place(b"new", b"old")
    assert (here.files / "new").read_bytes() == b"one"


def test_a_file_that_is_open_elsewhere_goes_when_nobody_has_written_it_for_long(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    clock = [0.0]
    monkeypatch.setattr("pickbox.replication.swaps.time.monotonic", lambda: clock[-1])
    row = here.state.get(b"f")
    assert row is not None
    swaps = Swaps(here.tree, "node1", 30.0)
    with (here.files / "f").open("ab", buffering=0) as application:
        for now in (0.0, 29.0):
            clock.append(now)
            with pytest.raises(StillOpen):
                swaps.await_writer(row)
        application.write(b" and a line")  # which is taken in
        row = KnownState.of(b"f", (here.files / "f").stat(), b"", 2)
        for now in (31.0, 60.0):
            clock.append(now)
            with pytest.raises(StillOpen):
                swaps.await_writer(row)
        clock.append(61.0)
        assert swaps.await_writer(row)
    assert not swaps.await_writer(row)


def test_content_of_a_failed_placement_can_be_read(here: Here) -> None:
    """It was dressed already, maybe in a mode that its owner cannot read."""
    digest = digest_bytes(b"content")
    here.agree_on_file(b"f", b"content", mode=0o200)
    here.inline.flush()
    (here.files / "f").mkdir()
    with pytest.raises(ChangedMeanwhile):
        here.steps._put(here.catalog.get(b"f"), None)
    assert os.stat(here.staging.path(digest)).st_mode & 0o777 == 0o600


def a_put(content: bytes, on_stale: OnStale) -> Put:
    digest = digest_bytes(content)
    size = len(content)
    return Put(b"f", Kind.FILE, size, 0o640, OLD_TIME, digest, inline=content, on_stale=on_stale)


def test_other_content_of_the_same_size_and_time_is_not_taken_for_a_puts(here: Here) -> None:
    """Else no node would keep what an upload brought that sets the time: it would be lost."""
    here.agree_on_file(b"f", b"first!")
    here.place(b"f")
    for origin, on_stale in (("node1", OnStale.REFUSE), ("node2", OnStale.KEEP_BOTH)):
        put = a_put(b"second", on_stale)
        submission = Submission("id", origin, 0, (put,))
        assert not here.content.is_in_folder(submission, put)


def test_what_the_watcher_took_in_and_what_was_placed_is_in_the_folder(here: Here) -> None:
    here.agree_on_file(b"f", b"first!")
    here.place(b"f")
    placed = a_put(b"first!", OnStale.REFUSE)
    assert here.content.is_in_folder(Submission("id", "node2", 0, (placed,)), placed)
    (here.files / "f").write_bytes(b"edited")
    os.utime(here.files / "f", ns=(OLD_TIME, OLD_TIME))
    edit = a_put(b"edited", OnStale.KEEP_BOTH)
    assert here.content.is_in_folder(Submission("id", "node1", 0, (edit,)), edit)


def test_a_full_disk_takes_no_content_away(here: Here) -> None:
    """The log is not asked for it again before a restart, and may have let it go by then."""
    here.agree_on_file(b"f", b"content" * 1000)
    here.steps.announce([b"f"])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            here.steps.place(b"f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    assert os.listdir(here.files.parent / "staging") == []
    here.place(b"f")
    assert (here.files / "f").read_bytes() == b"content" * 1000


def test_a_copy_of_a_file_ends_where_the_reserve_begins(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(3 << 20)
    here.agree_on_file(b"f", content)
    here.place(b"f")
    asked: list[int] = []

    def check(extra: int) -> None:
        asked.append(extra)
        if len(asked) > 2:
            raise DiskFull("others took the room")

    monkeypatch.setattr(here.disk, "check", check)
    here.agree(Entry(b"g", Kind.FILE, 3 << 20, 0o640, 0, digest_bytes(content), b"", 0, "node2"))
    with pytest.raises(DiskFull):
        here.place(b"g")
    assert asked == [3 << 20, 1 << 20, 1 << 20]
    assert os.listdir(here.files.parent / "staging") == []


def test_content_is_kept_until_it_is_placed(here: Here) -> None:
    """A compaction of the log between the two finds it, and writes it down."""
    here.agree_on_file(b"f", b"content")
    digest = digest_bytes(b"content")
    (here.files / "f").mkdir()
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert here.inline.get(digest) == b"content"
    (here.files / "f").rmdir()
    here.place(b"f")
    assert here.inline.get(digest) is None


class Marks:
    """Where the placer says that a person changed something."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.arrived = threading.Event()

    def mark(self, path: bytes, *, delay: float = 0.0) -> None:
        self.paths.append(path)
        self.arrived.set()


class NoCounts:
    def placed(self, kind: str, size: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...

    def transferred(self, direction: str, peer: str, count: int) -> None: ...


def placer_of(here: Here, sources: Callable[[Entry], Sequence[str]] = lambda _: ()) -> Placer:
    """A placer that has no peer to ask for content."""
    return Placer(
        here.steps,
        here.catalog,
        Fetcher({}, here.staging, here.content, here.disk, NoCounts()),
        sources=sources,
        blocked=lambda: "",
        metrics=NoCounts(),
    )


def test_a_directory_that_somebody_removed_is_looked_at_and_not_what_was_to_go_into_it(
    here: Here,
) -> None:
    """The watcher would find nothing at the file, and ask for it again at once and for ever."""
    here.agree_on_directory(b"d")
    here.place(b"d")
    (here.files / "d").rmdir()
    here.agree_on_file(b"d/f", b"content")
    placer = placer_of(here)
    marks = Marks()
    placer.start(marks)
    try:
        placer.request([b"d/f"])
        assert marks.arrived.wait(5.0)
    finally:
        placer.stop()
    assert set(marks.paths) == {b"d"}


def test_the_longest_wait_is_that_of_the_file_whose_content_is_missing_longest(here: Here) -> None:
    placer = placer_of(here)
    placer.start(Marks())
    try:
        assert (placer.pending, placer.pending_seconds) == (0, 0)
        for path in (b"first", b"second"):
            here.agree_on_file_without_content(path)
            asked = time.monotonic()
            placer.request([path])
            eventually(lambda: placer.pending == here.index - 1)
        eventually(lambda: placer.pending_seconds > 0.2)  # through some tries
        since_the_second = time.monotonic() - asked
        assert placer.pending_seconds > since_the_second

        here.inline.put(digest_bytes(b"first"), b"first")
        eventually(lambda: placer.pending == 1)
        assert 0 < placer.pending_seconds <= time.monotonic() - asked

        here.inline.put(digest_bytes(b"second"), b"second")
        eventually(lambda: placer.pending == 0)
        assert placer.pending_seconds == 0
    finally:
        placer.stop()


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), ValueError("odd")])
def test_content_that_could_not_be_asked_for_is_asked_for_again(
    here: Here, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    asked: list[bytes] = []

    def ask(entry: Entry) -> Sequence[str]:
        asked.append(entry.path)
        if len(asked) == 1:
            raise error
        return ()

    placer = placer_of(here, ask)
    placer.start(Marks())
    try:
        here.agree_on_file_without_content(b"f")
        placer.request([b"f"])
        eventually(lambda: len(asked) > 1)
    finally:
        placer.stop()
    assert "fetch_refused" in {record.getMessage() for record in caplog.records}


def test_content_that_was_damaged_here_is_not_taken_for_content(here: Here) -> None:
    """Else it is fetched from nobody, copied, found to be wrong, and asked for again for ever."""
    here.steps = here.begin_again(settle_limit=0.0)
    here.agree_on_file(b"f", b"first!")
    here.place(b"f")
    digest = digest_bytes(b"first!")
    assert here.content.has(digest, 6)
    with (here.files / "f").open("r+b") as still_open:
        here.agree_on_file(b"f", b"second")
        here.place(b"f")
        assert here.content.has(digest, 6)  # in versions
        still_open.write(b"broken")
    assert not here.content.has(digest, 6)


def test_content_in_staging_is_not_needed_once_it_is_in_the_folder(here: Here) -> None:
    """A file that is uploaded a second time would be on the disk twice for good."""
    content = os.urandom(100)
    digest = digest_bytes(content)
    here.staging.put(digest, content)
    assert not here.content.is_placed(digest)
    here.agree_on_file(b"f", content)
    here.place(b"f")
    assert here.content.is_placed(digest)
    (here.files / "f").write_bytes(b"edited")
    assert not here.content.is_placed(digest)


def test_what_a_crash_kept_from_being_booked_stays_announced(here: Here) -> None:
    """Else the next version's announcement makes an edit of it, and a conflict."""
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    here.agree_on_file(b"f", b"two")
    here.steps.announce([b"f"])
    here.steps.place(b"f")  # and a crash before the flush
    here.agree_on_file(b"f", b"three")
    again = here.begin_again()
    again.announce([b"f"])
    with pytest.raises(ChangedMeanwhile):
        again.place(b"f")
    _, placed = here.state.look_up(b"f")
    assert placed is not None
    assert placed.digest == digest_bytes(b"two")
