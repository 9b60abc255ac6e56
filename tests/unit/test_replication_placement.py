"""Bringing one path of a real folder to what a real catalog says."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from placement_volume import OLD_TIME, Here
from privileges import without_privileges

from pickbox.changes import Entry, Kind, OnStale, Put, Submission
from pickbox.errors import DiskFull
from pickbox.replication.placement_steps import ContentMissing, NotYet
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.placement import ChangedMeanwhile

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_file_of_another_user_is_moved_by_who_may_change_it(here: Here) -> None:
    here.agree_on_file(b"old", b"content", 0o644)
    here.place(b"old")
    here.give_away(b"old")
    before = (here.files / "old").stat().st_ino
    here.agree_on_file(b"new", b"content", 0o600)
    here.inline.forget(digest_bytes(b"content"))
    here.agree(without=(b"old",))
    here.place(b"new", b"old")
    assert (here.files / "new").stat().st_ino == before


def test_content_below_a_directory_that_cannot_be_entered_is_not_here(here: Here) -> None:
    """It is fetched from another node then; an error would keep this one from applying its log."""
    here.agree_on_directory(b"d")
    here.agree_on_file(b"d/f", b"content", 0o644)
    here.place(b"d", b"d/f")
    digest = digest_bytes(b"content")
    here.inline.forget(digest)
    (here.files / "d").chmod(0o600)

    def look() -> None:
        assert here.content.open(digest, 7) is None
        assert not here.content.is_placed(digest)
        put = replace(a_put(b"content", OnStale.REFUSE), path=b"d/f")
        assert not here.content.is_in_folder(Submission("r", "node1", 1, (put,)), put)

    without_privileges(look)


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
