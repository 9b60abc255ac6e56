"""The lossy file system: what was synced survives a cut of the power, what was not may go."""

from __future__ import annotations

import ctypes
import os
import random
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from faults.unsynced import CUT, CUTS, SECTOR, SYNCFS, WRITE_BACK_SECONDS
from faults.volumes import LossyVolume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEEDS = range(6)
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def volume(
    request: pytest.FixtureRequest, tmp_path: Path, needs_faults: None
) -> Iterator[LossyVolume]:
    """One that writes nothing back by itself while a test runs, unless it is to."""
    made = LossyVolume(tmp_path / "volume", getattr(request, "param", 3600))
    try:
        yield made
    finally:
        made.remove()


def lose(volume: LossyVolume, cut: str = "clear-cache", seed: object = 0) -> dict[str, int]:
    lost = volume.cut_power(cut, str(seed))
    volume.power_up()
    return lost


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, *, durable: bool = True) -> None:
    path.write_bytes(content)
    if durable:
        sync(path)
        sync(path.parent)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(content)


# -- what was synced ------------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS)
def test_what_was_synced_survives(volume: LossyVolume, cut: str) -> None:
    folder = volume.path / "a" / "b"
    folder.mkdir(parents=True)
    sync(volume.path)
    sync(folder.parent)
    write(folder / "file", os.urandom(5000))
    content = (folder / "file").read_bytes()
    os.chmod(folder / "file", 0o640)
    os.utime(folder / "file", ns=(1, 1234567890123456789))
    sync(folder / "file")
    lose(volume, cut)
    assert (folder / "file").read_bytes() == content
    assert (folder / "file").stat().st_mtime_ns == 1234567890123456789
    assert (folder / "file").stat().st_mode & 0o777 == 0o640


def test_syncfs_makes_everything_durable(volume: LossyVolume) -> None:
    write(volume.path / "one", b"1" * 1000, durable=False)
    (volume.path / "directory").mkdir()
    (volume.path / "one").rename(volume.path / "directory" / "two")
    os.setxattr(volume.path, SYNCFS, b"")
    assert lose(volume)["names"] == 0
    assert (volume.path / "directory" / "two").read_bytes() == b"1" * 1000


def test_a_directory_sync_keeps_what_the_name_builds_on(volume: LossyVolume) -> None:
    """Of a chain of renames over three directories the last one is synced."""
    for name in "abc":
        (volume.path / name).mkdir()
    write(volume.path / "a" / "file", b"x", durable=False)
    sync(volume.path / "a" / "file")
    (volume.path / "a" / "file").rename(volume.path / "b" / "file")
    (volume.path / "b" / "file").rename(volume.path / "c" / "file")
    sync(volume.path / "c")
    lose(volume)
    assert (volume.path / "c" / "file").read_bytes() == b"x"


# -- what was not ---------------------------------------------------------------------------


def test_contents_that_were_not_synced_are_lost(volume: LossyVolume) -> None:
    write(volume.path / "file", b"old" * 500)
    overwrite(volume.path / "file", 100, b"new" * 700)
    assert lose(volume)["lost_sectors"] == 5
    assert (volume.path / "file").read_bytes() == b"old" * 500


def test_a_truncation_that_was_not_synced_is_undone(volume: LossyVolume) -> None:
    write(volume.path / "file", b"old" * 500)
    (volume.path / "file").write_bytes(b"short")
    lose(volume)
    assert (volume.path / "file").read_bytes() == b"old" * 500


def test_a_file_whose_directory_was_not_synced_is_lost(volume: LossyVolume) -> None:
    write(volume.path / "file", b"x", durable=False)
    sync(volume.path / "file")
    assert lose(volume) == {"names": 1, "lost_names": 1, "sectors": 0, "lost_sectors": 0}
    assert list(volume.path.iterdir()) == []


def test_changes_of_names_that_were_not_synced_are_undone(volume: LossyVolume) -> None:
    write(volume.path / "removed", b"removed")
    write(volume.path / "moved", b"moved")
    write(volume.path / "replaced", b"replaced")
    write(volume.path / "exchanged", b"exchanged")
    (volume.path / "empty").mkdir()
    sync(volume.path)
    (volume.path / "removed").unlink()
    (volume.path / "empty").rmdir()
    (volume.path / "moved").rename(volume.path / "replaced")
    exchange(volume.path / "replaced", volume.path / "exchanged")
    (volume.path / "link").symlink_to("nowhere")
    (volume.path / "new").mkdir()
    assert sorted(os.listdir(volume.path)) == ["exchanged", "link", "new", "replaced"]
    assert (volume.path / "exchanged").read_bytes() == b"moved"
    lose(volume)
    names = ["exchanged", "moved", "removed", "replaced"]
    assert sorted(os.listdir(volume.path)) == sorted([*names, "empty"])
    assert [(volume.path / name).read_text() for name in names] == names


def exchange(one: Path, other: Path) -> None:
    assert _libc.renameat2(-100, bytes(one), -100, bytes(other), 2) == 0


def test_attributes_that_were_not_synced_are_lost(volume: LossyVolume) -> None:
    write(volume.path / "file", b"x")
    before = (volume.path / "file").stat()
    os.chmod(volume.path / "file", 0o600)
    os.utime(volume.path / "file", ns=(5, 5))
    lose(volume)
    after = (volume.path / "file").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_nothing_works_without_power(volume: LossyVolume) -> None:
    descriptor = os.open(volume.path / "file", os.O_CREAT | os.O_WRONLY)
    os.setxattr(volume.path, CUT, b"clear-cache 0")
    with pytest.raises(OSError, match="Input/output"):
        os.write(descriptor, b"x")
    with pytest.raises(OSError, match="Input/output"):
        os.fsync(descriptor)
    with pytest.raises(OSError, match="Input/output"):
        (volume.path / "other").touch()
    os.close(descriptor)


def test_a_file_that_was_open_is_gone_with_the_power(volume: LossyVolume) -> None:
    descriptor = os.open(volume.path / "file", os.O_CREAT | os.O_WRONLY)
    lose(volume)
    with pytest.raises(OSError, match="not connected"):
        os.write(descriptor, b"x")
    with pytest.raises(OSError, match="not connected"):
        os.close(descriptor)


@pytest.mark.parametrize("volume", [WRITE_BACK_SECONDS], indirect=True)
def test_what_is_old_enough_is_written_back_by_itself(volume: LossyVolume) -> None:
    write(volume.path / "file", b"x", durable=False)
    time.sleep(WRITE_BACK_SECONDS)  # what is waited for shows only by what is lost
    list(volume.path.iterdir())
    assert lose(volume)["names"] == 0
    assert (volume.path / "file").read_bytes() == b"x"


def test_a_directory_is_not_removed_without_what_was_in_it(volume: LossyVolume) -> None:
    (volume.path / "full").mkdir()
    write(volume.path / "full" / "file", b"x")
    sync(volume.path)
    (volume.path / "full" / "file").unlink()
    (volume.path / "full").rmdir()
    sync(volume.path)
    assert lose(volume)["lost_names"] == 0
    assert list(volume.path.iterdir()) == []


# -- torn -----------------------------------------------------------------------------------


def test_a_torn_write_leaves_its_first_sectors(volume: LossyVolume) -> None:
    """The record before it, not synced either, is there whole."""
    found = set()
    for seed in SEEDS:
        path = volume.path / f"file{seed}"
        write(path, b"a" * SECTOR)
        overwrite(path, SECTOR, b"b" * SECTOR)
        overwrite(path, 2 * SECTOR, b"c" * 4 * SECTOR)
        lose(volume, "torn-op", seed)
        content = path.read_bytes()
        sectors = len(content) // SECTOR
        assert content == (b"a" * SECTOR + b"b" * SECTOR + b"c" * 4 * SECTOR)[: len(content)]
        assert 2 <= sectors < 6
        found.add(sectors)
    assert len(found) > 1


def test_any_subset_of_sectors_may_be_lost(volume: LossyVolume) -> None:
    found = set()
    for seed in SEEDS:
        path = volume.path / f"file{seed}"
        write(path, b"a" * 8 * SECTOR)
        overwrite(path, 0, b"b" * 8 * SECTOR)
        lose(volume, "torn-seq", seed)
        content = path.read_bytes()
        pattern = bytes(content[place] for place in range(0, len(content), SECTOR))
        assert content == b"".join(bytes([one]) * SECTOR for one in pattern)
        assert set(pattern) <= set(b"ab")
        found.add(pattern)
    assert any(b"ab" in pattern and b"ba" in pattern for pattern in found)


def test_a_file_that_grew_may_have_holes_of_zeros_and_no_foreign_bytes(volume: LossyVolume) -> None:
    for seed in SEEDS:
        path = volume.path / f"file{seed}"
        write(path, b"a" * 100)
        overwrite(path, 100, b"b" * (6 * SECTOR - 100))
        lose(volume, "torn-seq", seed)
        content = path.read_bytes()
        assert content[:100] == b"a" * 100
        assert set(content[100:]) <= {ord("b"), 0}
        assert len(content) == 100 or len(content) % SECTOR == 0


def test_what_was_cut_off_does_not_come_back_behind_new_content(volume: LossyVolume) -> None:
    for seed in range(12):
        path = volume.path / f"file{seed}"
        write(path, b"a" * 4 * SECTOR)
        path.write_bytes(b"b" * 4 * SECTOR)  # truncates first
        lose(volume, "torn-seq", seed)
        content = path.read_bytes()
        assert content == b"a" * 4 * SECTOR or set(content) <= {ord("b"), 0}


def test_names_are_lost_in_no_order_that_cannot_be(volume: LossyVolume) -> None:
    """A directory is never lost without what is in it; what is kept has all that it builds on."""
    for seed in range(12):
        top = volume.path / f"{seed}"
        top.mkdir()
        sync(volume.path)
        inner = top / "inner"
        inner.mkdir()
        for number in range(4):
            (inner / f"{number}").touch()
        (inner / "0").rename(inner / "moved")
        inner.rename(top / "outer")
        (top / "outer" / "late").touch()
        (top / "outer" / "3").unlink()
        lost = lose(volume, "torn-seq", seed)
        assert lost["names"] == 9
        names = {path.name for path in top.rglob("*")}
        assert names == set() or len(names & {"inner", "outer"}) == 1
        assert len(names & {"0", "moved"}) <= 1


# -- what nodes put on it -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cut", CUTS)
def test_sqlite_is_whole_after_a_cut(volume: LossyVolume, cut: str, seed: int) -> None:
    """In WAL mode, whose index is shared memory: fully synchronous, all that was committed."""
    rng = random.Random(seed)
    database = connect(volume)
    database.execute("CREATE TABLE numbers (n INTEGER, filler BLOB)")
    for number in range(rng.randint(5, 60)):
        database.execute("INSERT INTO numbers VALUES (?, ?)", (number, bytes(rng.randrange(3000))))
        if rng.random() < 0.05:
            database.execute("PRAGMA wal_checkpoint")
    lose(volume, cut, seed)
    database.close()
    reopened = connect(volume)
    assert reopened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = [n for (n,) in reopened.execute("SELECT n FROM numbers ORDER BY n")]
    assert found == list(range(number + 1))
    reopened.close()


def connect(volume: LossyVolume) -> sqlite3.Connection:
    database = sqlite3.connect(volume.path / "database", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def test_a_file_that_was_removed_can_still_be_read(volume: LossyVolume) -> None:
    write(volume.path / "file", b"content", durable=False)
    with (volume.path / "file").open("rb", buffering=0) as file:
        (volume.path / "file").unlink()
        assert list(volume.path.iterdir()) == []
        assert file.read() == b"content"


def test_renames_are_refused_as_the_kernel_refuses_them(volume: LossyVolume) -> None:
    write(volume.path / "one", b"1", durable=False)
    (volume.path / "full").mkdir()
    write(volume.path / "full" / "two", b"2", durable=False)
    (volume.path / "empty").mkdir()
    assert _libc.renameat2(-100, bytes(volume.path / "one"), -100, bytes(volume.path / "full"), 1)
    with pytest.raises(OSError, match="not empty"):
        (volume.path / "empty").rename(volume.path / "full")
    with pytest.raises(OSError, match="not empty"):
        (volume.path / "full").rmdir()
    (volume.path / "full").rename(volume.path / "empty")
    assert sorted(os.listdir(volume.path)) == ["empty", "one"]
