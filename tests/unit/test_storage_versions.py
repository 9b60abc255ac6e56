"""Replaced and deleted files can be had for the set time, and no longer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pickbox.changes import Kind
from pickbox.known import KnownState, kind_of
from pickbox.storage.digest import digest_bytes
from pickbox.storage.state import StateDatabase
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = 86400.0


class Clock:
    """Seconds that pass when told to."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A versions directory, and files to put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.directory = os.fsencode(root / "versions")
        self.state = StateDatabase(os.fsencode(root / "state.db"))
        self.versions = Versions(self.directory, self.state, DAY, clock=self.clock)

    def file(self, content: bytes, mode: int = 0o644) -> bytes:
        path = os.fsencode(self.root / "out")
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def keep(self, name: bytes, out: bytes, content: bytes, version: int = 1) -> KnownState:
        stat = os.lstat(out)
        kind = kind_of(stat)
        assert kind is not None
        known = KnownState(
            name,
            kind,
            len(content),
            stat.st_mode & 0o777,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
            stat.st_ino,
            digest_bytes(content),
            version,
        )
        self.versions.keep(out, known)
        return known

    def read(self, content: bytes) -> bytes | None:
        file = self.versions.open(digest_bytes(content))
        if file is None:
            return None
        with file:
            return file.read()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    it = Shelf(tmp_path)
    yield it
    it.state.close()


def test_a_kept_file_is_listed_latest_first_and_can_be_read(shelf: Shelf) -> None:
    out = shelf.file(b"one")
    known = shelf.keep(b"a", out, b"one", version=3)
    assert not os.path.lexists(out)
    shelf.clock.now += 5
    shelf.keep(b"a", shelf.file(b"two"), b"two", version=4)
    shelf.keep(b"b", shelf.file(b"three"), b"three", version=5)
    latest, first = shelf.versions.list(b"a")
    assert (latest.version, first.version) == (4, 3)
    assert (first.size, first.mode, first.mtime_ns) == (3, 0o644, known.mtime_ns)
    assert (first.kind, first.kept_at) == (Kind.FILE, 1_000_000.0)
    assert shelf.read(b"one") == b"one"
    assert shelf.versions.open(digest_bytes(b"never")) is None


def test_the_same_content_takes_the_room_of_one(shelf: Shelf) -> None:
    for name in (b"a", b"b", b"a"):
        shelf.keep(name, shelf.file(b"same"), b"same")
    assert len(os.listdir(shelf.directory)) == 1
    assert len(shelf.versions.list(b"a")) == 2


def test_what_is_past_its_time_goes_and_shared_content_stays(shelf: Shelf) -> None:
    shelf.keep(b"a", shelf.file(b"old"), b"old")
    shelf.keep(b"b", shelf.file(b"shared"), b"shared")
    shelf.clock.now += DAY / 2
    shelf.keep(b"c", shelf.file(b"shared"), b"shared")
    assert shelf.versions.sweep() == 0
    shelf.clock.now += DAY / 2
    assert shelf.versions.sweep() == 1
    assert shelf.versions.list(b"a") == shelf.versions.list(b"b") == []
    assert shelf.read(b"old") is None
    assert shelf.read(b"shared") == b"shared"
    shelf.clock.now += DAY
    assert shelf.versions.sweep() == 1
    assert os.listdir(shelf.directory) == []


def test_a_file_that_a_crash_left_without_a_row_is_swept(shelf: Shelf) -> None:
    for name in (digest_bytes(b"x").hex().encode(), b"tmp-1"):
        with open(os.path.join(shelf.directory, name), "wb"):
            pass
    assert shelf.versions.sweep() == 2


def test_a_symlink_is_kept_as_its_target(shelf: Shelf) -> None:
    out = os.fsencode(shelf.root / "out")
    os.symlink(b"../somewhere/else", out)
    shelf.keep(b"link", out, b"../somewhere/else")
    assert not os.path.lexists(out)
    assert shelf.read(b"../somewhere/else") == b"../somewhere/else"
    assert shelf.versions.list(b"link")[0].kind is Kind.SYMLINK


def test_a_file_with_another_name_is_copied_so_that_writes_there_do_not_show(shelf: Shelf) -> None:
    out = shelf.file(b"shared")
    other = shelf.root / "other"
    os.link(out, other)
    shelf.keep(b"a", out, b"shared")
    other.write_bytes(b"later")
    assert shelf.read(b"shared") == b"shared"
    assert not os.path.lexists(out)


def test_a_file_that_its_owner_may_not_read_can_be_read_once_kept(shelf: Shelf) -> None:
    known = shelf.keep(b"a", shelf.file(b"secret", mode=0), b"secret")
    assert known.mode == shelf.versions.list(b"a")[0].mode == 0
    kept = os.path.join(shelf.directory, known.digest.hex().encode())
    assert os.lstat(kept).st_mode & 0o777 == 0o600


def test_a_directory_is_refused_and_a_missing_file_is_not_listed(shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="no content"):
        shelf.keep(b"d", os.fsencode(shelf.root), b"")
    known = KnownState(b"a", Kind.FILE, 0, 0, 0, 0, 0, digest_bytes(b""), 1)
    with pytest.raises(FileNotFoundError):
        shelf.versions.keep(os.fsencode(shelf.root / "missing"), known)
    assert shelf.versions.list(b"a") == []


def test_times_that_sqlite_cannot_hold_are_kept(shelf: Shelf) -> None:
    out = shelf.file(b"far")
    far = KnownState(b"a", Kind.FILE, 3, 0o644, 1 << 64, 0, 0, digest_bytes(b"far"), 1)
    shelf.versions.keep(out, far)
    assert shelf.versions.list(b"a")[0].mtime_ns == 1 << 64
