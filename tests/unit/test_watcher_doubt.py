"""After a loss of power: nothing that was placed lately is taken for a person's doing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from watcher_node import ClusterOfOne

from pickbox.changes import ABSENT, ANY_VERSION, Change, Delete, Kind, Move, Put, Submission
from pickbox.known import KnownState
from pickbox.storage.digest import digest_bytes
from pickbox.storage.power import PowerRecord
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.watcher.doubt import Doubts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MTIME = 1_700_000_000_000_000_000


class Folder:
    """A folder with its state manager and catalog, in step until somebody disturbs the disk."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.tree = FileTree(bytes(self.files))
        self.tree.prepare("node1")
        self.state = StateDatabase(bytes(directory / "state.db"))
        self.catalog = ClusterOfOne()
        self.doubts = Doubts(self.tree, self.state, self.catalog)

    def place(self, path: str, content: bytes) -> None:
        """Commit a file and place it, as a node does."""
        put = Put(
            path.encode(), Kind.FILE, len(content), 0o644, MTIME, digest_bytes(content),
            base=ANY_VERSION,
        )  # fmt: skip
        self.commit(put)
        (self.files / path).parent.mkdir(exist_ok=True)
        (self.files / path).write_bytes(content)
        (self.files / path).chmod(0o644)
        os.utime(self.files / path, ns=(MTIME, MTIME))
        stat = os.lstat(self.files / path)
        entry = self.catalog.get(path.encode())
        assert entry is not None
        self.state.put([KnownState.of(path.encode(), stat, put.digest, entry.version)])

    def commit(self, *changes: Change) -> None:
        self.catalog.propose(changes, timeout=1.0)
        self.doubts.note([Submission("r", "node2", 1, changes)], [])

    def version(self, path: bytes) -> int | None:
        """The version that the row of `path` has; the row is what is on the disk."""
        row, stat = self.state.get(path), self.tree.lstat(path)
        if row is None:
            return None
        assert stat is not None
        assert row.matches(stat)
        return row.version


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.state.close()


def test_what_is_as_the_catalog_says_stays_known(folder: Folder) -> None:
    folder.place("f", b"content")
    assert folder.doubts.settle() == 0
    entry = folder.catalog.get(b"f")
    assert entry is not None
    assert folder.version(b"f") == entry.version


def test_a_placed_file_that_came_back_empty_is_no_edit(folder: Folder) -> None:
    folder.place("f", b"content")
    (folder.files / "f").write_bytes(b"")
    assert folder.doubts.settle() == 1
    assert folder.version(b"f") == ABSENT


def test_a_placed_file_that_is_missing_is_no_delete(folder: Folder) -> None:
    folder.place("f", b"content")
    (folder.files / "f").unlink()
    assert folder.doubts.settle() == 1
    assert folder.state.get(b"f") is None


def test_a_removed_file_that_came_back_is_nothing_new(folder: Folder) -> None:
    folder.commit(Delete(b"f"))
    (folder.files / "f").write_bytes(b"removed, and not for good")
    assert folder.doubts.settle() == 1
    assert folder.version(b"f") == ABSENT


def test_what_a_move_of_a_directory_left_on_both_sides_is_looked_at(folder: Folder) -> None:
    folder.place("d/f", b"content")
    folder.doubts = Doubts(folder.tree, folder.state, folder.catalog)
    folder.doubts.note([Submission("r", "node2", 1, (Move(b"d", b"e"),))], [])
    (folder.files / "e").mkdir()
    (folder.files / "e/f").write_bytes(b"half placed")
    folder.doubts.settle()
    assert folder.version(b"e/f") == ABSENT
    assert folder.version(b"d/f") is not None


def test_where_a_conflict_copy_went_is_looked_at(folder: Folder) -> None:
    copy = b"f.sync-conflict-20260101-000000-node1"
    folder.doubts.note([Submission("r", "node1", 1, ())], [copy])
    (folder.files / os.fsdecode(copy)).write_bytes(b"")
    assert folder.doubts.settle() == 1
    assert folder.version(copy) == ABSENT


def test_only_a_reboot_without_a_clean_stop_is_a_loss_of_power(tmp_path: Path) -> None:
    record = PowerRecord(bytes(tmp_path / "boot"))
    assert record.may_have_failed()
    record.note_start()
    assert not record.may_have_failed()  # kill -9 loses nothing that was written
    (tmp_path / "boot").write_text("another boot of the machine")
    assert record.may_have_failed()
    record.note_clean_stop()
    assert not record.may_have_failed()
