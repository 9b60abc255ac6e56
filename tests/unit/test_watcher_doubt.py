"""After a loss of power: what was placed lately is no person's doing, and what people did is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from doubtful_folder import LATER, LONG, MTIME, Folder, file
from privileges import without_privileges

from pickbox.changes import ABSENT, Delete, Kind, Move, Put
from pickbox.known import KnownState, Revision
from pickbox.storage.digest import digest_bytes
from pickbox.watcher.remembered import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def test_what_is_as_the_catalog_says_stays_known(folder: Folder) -> None:
    folder.place("f", b"content")
    assert folder.lose_power() == set()
    assert folder.version("f") == folder.agreed("f")


DAMAGE = {
    "empty": b"",
    "cut": LONG[: 2 * SECTOR],
    "a hole": LONG[:SECTOR] + bytes(SECTOR) + LONG[2 * SECTOR :],
    "zeros": bytes(len(LONG)),
}


@pytest.mark.parametrize("found", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("mtime_ns", [MTIME, LATER], ids=["its time", "another time"])
def test_a_placed_file_that_came_back_damaged_is_no_edit(
    folder: Folder, found: bytes, mtime_ns: int
) -> None:
    folder.place("f", LONG)
    folder.write("f", found, mtime_ns)
    assert folder.lose_power() == {b"f"}
    assert folder.version("f") == ABSENT


def test_a_file_that_holds_two_contents_is_no_edit(folder: Folder) -> None:
    """A person wrote over it in place, and did not sync it."""
    folder.place("f", LONG)
    folder.place("f", LONG.upper())
    folder.write("f", LONG.upper()[:SECTOR] + LONG[SECTOR:], LATER)
    assert folder.lose_power() == {b"f"}
    assert folder.version("f") == ABSENT


def test_a_file_that_has_a_content_of_before_is_no_edit(folder: Folder) -> None:
    """Before the last snapshot, which has nothing of it but the digest."""
    folder.place("f", LONG)
    folder.take_snapshot()
    folder.place("f", b"newer")
    folder.write("f", LONG, LATER)
    assert folder.lose_power() == {b"f"}
    assert folder.version("f") == ABSENT


def test_a_placed_file_that_is_missing_is_no_delete(folder: Folder) -> None:
    folder.place("f", b"content")
    (folder.files / "f").unlink()
    assert folder.lose_power() == {b"f"}
    assert folder.state.get(b"f") is None


def test_a_removed_file_that_came_back_is_nothing_new(folder: Folder) -> None:
    folder.place("f", b"removed, and not for good")
    folder.take_snapshot()
    folder.commit(Delete(b"f"))
    folder.state.forget([folder.state.get(b"f")])  # type: ignore[list-item]  # it is there
    assert folder.lose_power() == {b"f"}
    assert folder.version("f") == ABSENT


def test_what_a_move_of_a_directory_left_on_both_sides_is_looked_at(folder: Folder) -> None:
    folder.place("d/f", LONG)
    folder.take_snapshot()
    folder.commit(Move(b"d", b"e"))
    folder.write("e/f", LONG)
    assert folder.lose_power() == {b"d", b"d/f"}
    assert folder.version("e/f") == folder.agreed("e/f")
    assert folder.version("d/f") == ABSENT


@pytest.mark.parametrize("inline", [True, False], ids=["in the log", "fetched"])
@pytest.mark.parametrize("found", [LONG, LONG[:SECTOR]], ids=["whole", "cut"])
def test_what_was_moved_and_then_removed_and_came_back_is_nothing_new(
    folder: Folder, found: bytes, inline: bool
) -> None:
    """Nobody put it where it is; what was fetched was whole before it got a name and its time."""
    folder.take_snapshot()
    folder.commit(file("a", LONG, inline=inline))
    folder.commit(Move(b"a", b"b"))
    folder.commit(Delete(b"b"))
    folder.write("b", found, LATER if inline or found == LONG else MTIME)
    assert folder.lose_power() == {b"b"}
    assert folder.version("b") == ABSENT


def test_a_copy_where_a_move_was_refused_is_an_edit(folder: Folder) -> None:
    folder.place("a", LONG)
    folder.place("b", b"in the way")
    folder.commit(Move(b"a", b"b", destination_base=ABSENT))
    folder.write("b", LONG, LATER)
    assert folder.lose_power() == set()
    row = folder.state.get(b"b")
    assert row is not None
    assert folder.version("b") is None


def test_where_a_conflict_copy_went_is_looked_at(folder: Folder) -> None:
    """Also if the catalog went back with the power, and learns of it when the log is applied."""
    folder.place("f", b"first")
    losing = Put(
        b"f", Kind.FILE, len(LONG), 0o644, LATER, digest_bytes(LONG), inline=LONG, base=ABSENT
    )
    folder.commit(losing)
    (copy,) = (e.path for e in folder.catalog.under(b"") if b"sync-conflict" in e.path)
    folder.write(os.fsdecode(copy), b"", LATER + 1)
    assert folder.lose_power() == {copy}
    assert folder.version(os.fsdecode(copy)) == ABSENT


def test_what_a_person_made_and_synced_is_an_edit(folder: Folder) -> None:
    folder.place("f", LONG)
    before = folder.state.get(b"f")
    folder.write("f", b"saved a moment before the power went", LATER)
    assert folder.lose_power() == set()
    assert folder.state.get(b"f") == before  # what the edit was made on


def test_an_edit_that_reached_only_this_nodes_log_is_an_edit(folder: Folder) -> None:
    """The cluster goes on without that entry, so that somebody has to propose it again."""
    folder.place("f", LONG)
    folder.append(file("f", b"never committed", mtime_ns=LATER))
    folder.write("f", b"never committed", LATER)
    assert folder.lose_power() == set()
    assert folder.version("f") is None


def test_a_file_that_a_person_has_renamed_stays_renamed(folder: Folder) -> None:
    folder.place("f", LONG)
    (folder.files / "f").rename(folder.files / "g")
    folder.state.forget([folder.state.get(b"f")])  # type: ignore[list-item]  # lost with the power
    assert folder.lose_power() == set()
    row = folder.state.get(b"f")
    assert row is not None
    assert row.version == folder.agreed("f")
    assert [known.path for known in folder.state.with_inode(row.inode)] == [b"f"]
    assert folder.tree.lstat(b"g").st_ino == row.inode  # type: ignore[union-attr]  # it is there


def test_what_is_left_of_a_renamed_file_is_not_taken_in(folder: Folder) -> None:
    """The new name was durable, and the content was not."""
    folder.place("f", LONG)
    (folder.files / "f").rename(folder.files / "g")
    folder.write("g", LONG[:SECTOR] + bytes(SECTOR), LATER)
    assert folder.lose_power() == {b"f", b"g"}
    assert folder.version("g") == ABSENT


def test_a_copy_that_a_person_made_is_no_rename(folder: Folder) -> None:
    folder.place("f", LONG)
    (folder.files / "f").unlink()
    folder.write("g", LONG, LATER)
    assert folder.lose_power() == {b"f"}
    assert folder.state.get(b"g") is None


def test_an_answer_that_was_lost_says_nothing_of_the_disk_any_more(folder: Folder) -> None:
    """It would be booked for what was there when it was asked, and the damage be an edit of it."""
    stat = os.lstat(folder.directory)
    for request_id in ("answered", "never heard of"):
        row = KnownState.of(b"f", stat, digest_bytes(LONG), ABSENT)
        folder.state.propose(request_id, [Revision(b"f", ABSENT, row)])
    folder.commit(file("f", LONG), request_id="answered")
    folder.lose_power()
    assert list(folder.state.proposed()) == ["never heard of"]


@pytest.mark.parametrize("unreadable", ["d", "d/f"])
def test_what_cannot_be_read_keeps_nobody_waiting_and_is_no_edit_later(
    folder: Folder, unreadable: str
) -> None:
    """It may be damaged. Without a row, it replaces nothing, and what is missing is placed."""
    folder.place("d/f", LONG)
    folder.take_snapshot()
    folder.commit(Move(b"d", b"e"), Move(b"e", b"d"))
    folder.know("d/f")
    wrong: list[set[bytes]] = []
    (folder.files / unreadable).chmod(0)
    try:
        without_privileges(lambda: wrong.append(folder.lose_power()))
    finally:
        (folder.files / unreadable).chmod(0o755)
    assert b"d/f" not in wrong[0]
    assert folder.state.get(b"d/f") is None


# -- what the log has forgotten ---------------------------------------------------------------


def test_what_was_not_placed_at_a_snapshot_is_in_doubt_after_it(folder: Folder) -> None:
    """The log lets the entry go, and nobody syncs what is placed later."""
    folder.commit(file("late", LONG))
    folder.place("placed", LONG)
    folder.take_snapshot()
    folder.write("late", LONG)
    folder.know("late")
    folder.write("late", b"", LATER)
    assert folder.lose_power() == {b"late"}
    assert folder.version("late") == ABSENT


def test_what_was_not_placed_stays_in_doubt_until_the_next_sync_is_done(folder: Folder) -> None:
    """The power may go while the volume is being synced, with what was placed since the last."""
    folder.commit(file("late", LONG))
    folder.take_snapshot()
    folder.write("late", LONG)
    folder.know("late")
    folder.refusal = OSError("the power is gone")
    with pytest.raises(OSError, match="gone"):
        folder.synced.sync()
    folder.write("late", b"", LATER)
    assert folder.lose_power() == {b"late"}
    assert folder.version("late") == ABSENT


def test_where_no_sync_was_done_after_another_nodes_snapshot_all_is_in_doubt(
    folder: Folder,
) -> None:
    folder.place("f", LONG)
    path = str(folder.directory / "received")
    folder.catalog.begin_dump()(path)
    folder.snapshot, folder.log = (path, folder.catalog.applied_index), []
    folder.refusal = OSError("the power is gone")
    with pytest.raises(OSError, match="gone"):
        folder.synced.sync()
    folder.write("f", b"whatever is left", LATER)
    assert folder.lose_power() == {b"f"}


def test_a_durable_transaction_is_synced_and_the_others_need_not_be(folder: Folder) -> None:
    levels: list[int] = []

    def level() -> None:
        with folder.state.transaction() as connection:
            levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    level()
    with folder.state.transaction(durable=True) as connection:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
    level()
    assert levels == [1, 2, 1]  # NORMAL, FULL, NORMAL


def test_what_was_durable_at_a_snapshot_is_in_no_doubt_after_it(folder: Folder) -> None:
    folder.place("f", LONG)
    folder.take_snapshot()
    (folder.files / "f").unlink()  # by a person
    assert folder.lose_power() == set()
    assert folder.state.get(b"f") is not None


def test_where_the_log_does_not_reach_back_to_the_last_sync_all_is_in_doubt(folder: Folder) -> None:
    """Another node's snapshot has taken the place of entries, and was not placed for good."""
    folder.place("f", LONG)
    folder.snapshot, folder.log = None, []
    path = str(folder.directory / "received")
    folder.catalog.begin_dump()(path)
    folder.snapshot = path, folder.catalog.applied_index
    folder.write("f", b"whatever is left", LATER)
    folder.write("new", b"made by a person", LATER)
    assert folder.lose_power() == {b"f"}
    assert folder.version("f") == ABSENT
    assert folder.state.get(b"new") is None


def test_a_sync_names_what_rows_and_catalog_do_not_agree_on(folder: Folder) -> None:
    folder.place("same", b"1")
    folder.place("newer", b"1")
    row = folder.state.get(b"newer")
    assert row is not None
    folder.place("removed", b"1")
    folder.commit(file("newer", b"2"), file("missing", b"1"), Delete(b"removed"))
    folder.synced.sync()
    one = blake3(b"1").digest()
    assert folder.synced.behind() == {b"missing": b"", b"newer": one, b"removed": one}
    assert folder.synced.index == folder.catalog.applied_index
    assert folder.syncs == 1
