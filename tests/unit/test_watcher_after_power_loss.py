"""The folder stays shut until what a loss of power left in doubt is settled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from doubtful_folder import LONG, Folder
from watcher_node import wait_until

from pickbox.errors import NoLeader
from pickbox.storage.power import PowerRecord
from pickbox.watcher.after_power_loss import AfterPowerLoss
from pickbox.watcher.doubt import Doubts
from pickbox.watcher.remembered import SECTOR, is_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.close()


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
    wait_until(lambda: not start.parts.in_doubt)
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
    wait_until(lambda: not second.parts.in_doubt)
    second.end()
    assert not Start(folder, set).parts.in_doubt


def test_the_log_forgets_nothing_while_the_folder_is_in_doubt(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.watcher.after_power_loss._PATIENCE", 0.01)
    start = Start(folder, set)
    start.parts.start()
    with pytest.raises(OSError, match="in doubt"):
        start.parts.wait_settled()  # it ends: the catalog is pinned meanwhile
    start.leader.set()
    wait_until(lambda: not start.parts.in_doubt)
    start.parts.wait_settled()
    start.end()


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
    wait_until(lambda: not start.parts.in_doubt)
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
    wait_until(lambda: not start.parts.in_doubt)
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
    wait_until(lambda: not start.parts.in_doubt)
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
