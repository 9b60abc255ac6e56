"""After a loss of power: what was placed lately is no person's doing, and what people did is."""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from privileges import without_privileges
from watcher_node import wait_until

from pickbox.changes import ABSENT, ANY_VERSION, Change, Delete, Kind, Move, Put, Submission
from pickbox.codec import encode_command
from pickbox.errors import NoLeader
from pickbox.known import KnownState, Revision
from pickbox.replication.inline import InlineContent
from pickbox.replication.state_machine import StateMachine
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.power import PowerRecord
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.synced import SyncedFolder
from pickbox.storage.tree import FileTree
from pickbox.watcher.after_power_loss import AfterPowerLoss
from pickbox.watcher.doubt import Doubts
from pickbox.watcher.remembered import SECTOR, is_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MTIME = 1_700_000_000_000_000_000
LATER = MTIME + 60 * 10**9
LONG = b"a line of what was written\n" * 100


class Folder:
    """A folder with its rows, catalog and log, in step until somebody disturbs the disk."""

    def __init__(self, directory: Path) -> None:
        base = bytes(directory)
        self.directory = directory
        self.files = directory / "files"
        self.tree = FileTree(bytes(self.files))
        self.tree.prepare("node1")
        self.state = StateDatabase(base + b"/state.db")
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.staging = Staging(base + b"/staging")
        self.syncs = 0
        self.refusal: OSError | None = None
        self.synced = SyncedFolder(base, self.state, self.catalog, self._sync)
        self.log: list[tuple[int, bytes]] = []
        self.snapshot: tuple[str, int] | None = None
        self._indexes = itertools.count(2)

    def _sync(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.syncs += 1

    def machine(self, doubts: Doubts | None = None) -> StateMachine:
        """The state machine of a node that starts."""
        return StateMachine(
            self.catalog,
            InlineContent(self.staging),
            in_folder=lambda submission, put: False,
            on_applied=lambda index, touched, _: doubts and doubts.note_touched(index, touched),
            on_loaded=lambda: None,
            before_snapshot=self.synced.sync,
            on_recalled=doubts.note if doubts else lambda index, submissions: None,
            on_recalled_from=doubts.note_snapshot if doubts else None,
        )

    def commit(self, *changes: Change, request_id: str = "") -> int:
        """Have the cluster agree on changes; the index of their entry."""
        index = next(self._indexes)
        submission = Submission(request_id or f"request {index}", "node2", 1, changes)
        self.log.append((index, encode_command([submission])))
        self.machine().apply(*self.log[-1])
        return index

    def append(self, *changes: Change) -> None:
        """Changes that are in this node's log, and were never committed."""
        index = next(self._indexes)
        submission = Submission(f"request {index}", "node1", 1, changes)
        self.log.append((index, encode_command([submission])))

    def place(self, path: str, content: bytes, *, inline: bool = True) -> None:
        """Commit a file and place it, as a node does."""
        put = file(path, content, inline=inline)
        self.commit(put)
        self.write(path, content)
        self.know(path)

    def write(self, path: str, content: bytes, mtime_ns: int = MTIME) -> None:
        (self.files / path).parent.mkdir(exist_ok=True)
        (self.files / path).write_bytes(content)
        (self.files / path).chmod(0o644)
        os.utime(self.files / path, ns=(mtime_ns, mtime_ns))

    def know(self, path: str) -> None:
        """Have the row of a path say that it is placed."""
        entry = self.catalog.get(path.encode())
        assert entry is not None
        stat = os.lstat(self.files / path)
        self.state.put([KnownState.of(entry.path, stat, entry.digest, entry.version)])

    def take_snapshot(self) -> None:
        """As the log does: it keeps no entry before it."""
        index, path = self.catalog.applied_index, str(self.directory / f"snapshot-{len(self.log)}")
        self.machine().begin_dump()(path)
        self.snapshot, self.log = (path, index), []

    def lose_power(self) -> set[bytes]:
        """Start anew and settle; return what is wrong."""
        doubts = Doubts(self.tree, self.state, self.catalog, self.staging, self.synced)
        machine = self.machine(doubts)
        if self.snapshot:
            machine.recall_from(*self.snapshot)
        for index, command in self.log:
            machine.recall(index, command)
        return doubts.settle()

    def version(self, path: str) -> int | None:
        """The version that the row of `path` has, if the row is what is on the disk."""
        row, stat = self.state.get(path.encode()), self.tree.lstat(path.encode())
        return row.version if row is not None and stat is not None and row.matches(stat) else None

    def agreed(self, path: str) -> int:
        entry = self.catalog.get(path.encode())
        assert entry is not None
        return entry.version


def file(path: str, content: bytes, *, mtime_ns: int = MTIME, inline: bool = True) -> Put:
    return Put(
        path.encode(),
        Kind.FILE,
        len(content),
        0o644,
        mtime_ns,
        blake3(content).digest(),
        inline=content if inline else None,
        base=ANY_VERSION,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.state.close()
    folder.catalog.close()


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


# -- when doubt ends --------------------------------------------------------------------------


class Start:
    """One start of a node on a folder; its doubts are settled when a leader answers."""

    def __init__(self, folder: Folder, settle: Callable[[], set[bytes]]) -> None:
        self.leader = threading.Event()
        self.opened: list[set[bytes]] = []
        self.placing = True
        doubts = Doubts(folder.tree, folder.state, folder.catalog, folder.staging, folder.synced)
        doubts.settle = settle  # type: ignore[method-assign]
        self.record = PowerRecord(bytes(folder.directory / "boot"))
        self.parts = AfterPowerLoss(
            self.record,
            doubts,
            folder.synced,
            in_doubt=self.record.may_have_failed(),
            barrier=self._barrier,
            wants=lambda paths: self.placing and bool(paths),
            open_folder=lambda wrong: self.opened.append(set(wrong)),
        )

    def _barrier(self, timeout: float) -> None:
        if not self.leader.wait(0.01):
            raise NoLeader("nobody leads")

    def end(self) -> None:
        self.parts.stop(10.0)

    def end_by_itself(self) -> None:
        self.parts._thread.join(10.0)


def test_the_folder_stays_shut_until_a_leader_has_told_what_is_committed(folder: Folder) -> None:
    start = Start(folder, lambda: {b"f"})
    start.parts.start()
    assert start.parts.in_doubt
    assert "a leader is needed" in start.parts.reason
    assert start.opened == []
    start.leader.set()
    start.parts.wait_settled()
    start.end()
    assert start.opened == [{b"f"}]
    assert folder.syncs == 1
    assert "placed again" in start.parts.reason
    start.placing = False
    assert start.parts.reason == ""


def test_doubt_outlasts_a_node_that_ends_before_it_is_settled(folder: Folder) -> None:
    first = Start(folder, set)
    first.parts.start()
    first.end()
    assert first.opened == []
    second = Start(folder, set)
    assert second.parts.in_doubt
    second.leader.set()
    second.parts.start()
    second.parts.wait_settled()
    second.end()
    assert not Start(folder, set).parts.in_doubt


def test_the_log_forgets_nothing_while_the_folder_is_in_doubt(folder: Folder) -> None:
    start = Start(folder, set)
    start.parts.start()
    start.end()
    with pytest.raises(OSError, match="in doubt"):
        start.parts.wait_settled()


def test_a_disk_that_refuses_is_asked_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.after_power_loss._PATIENCE", 0.01)
    refusals = [OSError("no space"), OSError("no space")]

    def settle() -> set[bytes]:
        if refusals:
            raise refusals.pop()
        return set()

    start = Start(folder, settle)
    start.leader.set()
    start.parts.start()
    start.parts.wait_settled()
    start.end()
    assert start.opened == [set()]


def test_doubts_are_settled_once_however_often_the_sync_after_it_fails(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the log said is forgotten then: a second time would find less."""
    monkeypatch.setattr("pickbox.watcher.after_power_loss._PATIENCE", 0.01)
    found = [{b"f"}]
    refusals = [OSError("no space"), OSError("no space")]

    def sync() -> None:
        if refusals:
            raise refusals.pop()

    monkeypatch.setattr(folder.synced, "sync", sync)
    start = Start(folder, found.pop)
    start.leader.set()
    start.parts.start()
    start.parts.wait_settled()
    start.end()
    assert start.opened == [{b"f"}]


def test_whatever_keeps_doubts_from_being_settled_is_said_and_tried_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.after_power_loss._PATIENCE", 0.01)
    mended = threading.Event()
    failed = threading.Event()

    def settle() -> set[bytes]:
        if mended.is_set():
            return set()
        failed.set()
        raise ValueError("nobody thought of this")

    start = Start(folder, settle)
    start.leader.set()
    start.parts.start()
    assert failed.wait(10.0)
    wait_until(lambda: "nobody thought of this" in start.parts.reason)
    assert start.parts.alive()
    mended.set()
    start.parts.wait_settled()
    start.end()
    assert start.opened == [set()]


def test_a_node_lives_while_it_waits_and_does_not_if_it_cannot_open_its_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def refuse(wrong: object) -> None:
        raise RuntimeError("can't start new thread")

    start = Start(folder, set)
    start.parts._open_folder = refuse
    assert start.parts.alive()
    start.parts.start()
    assert start.parts.alive()
    start.leader.set()
    start.end_by_itself()
    assert not start.parts.alive()


def test_only_a_reboot_without_a_clean_stop_is_a_loss_of_power(tmp_path: Path) -> None:
    record = PowerRecord(bytes(tmp_path / "boot"))
    assert record.may_have_failed()
    assert not record.may_have_failed(used=False)  # the first start of all
    record.note_start()
    assert not record.may_have_failed()  # kill -9 loses nothing that was written
    (tmp_path / "boot").write_text("another boot of the machine")
    assert record.may_have_failed(used=False)  # the databases may have gone back to nothing
    record.note_clean_stop()
    assert not record.may_have_failed()


@pytest.mark.parametrize(
    ("found", "damage"),
    [
        (LONG, True),
        (LONG[:700], True),
        (LONG + b"more", False),
        (LONG[:SECTOR] + b"an edit", False),
        (b"an edit", False),
    ],
)
def test_only_sectors_of_what_was_written_are_damage(found: bytes, damage: bool) -> None:
    assert is_damage(found, [LONG]) is damage
