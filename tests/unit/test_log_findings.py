"""The log: P1 to P4, P31 and P32, in pysyncobj's journal and mended."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from consensus_cluster import Clock, Cluster, fake_clock
from pysyncobj import journal as library
from pysyncobj.journal import FIRST_RECORD_OFFSET, FileJournal
from stock_cluster import StockCluster

from pickbox.consensus.log import DurableLog, RealDisk
from pickbox.consensus.proposals import Fate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the kernel to make something durable, in order."""
    calls: list[str] = []

    def watched(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def asked(*arguments: Any) -> None:
            calls.append(name)
            call(*arguments)

        return asked

    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))

    class Watched(mmap.mmap):
        def flush(self, *arguments: int) -> None:
            calls.append("msync")
            super().flush(*arguments)

    monkeypatch.setattr(library, "mmap", SimpleNamespace(mmap=Watched))
    return calls


def journal_of(path: Path, count: int, size: int = 50) -> FileJournal:
    journal = FileJournal(str(path))
    for index in range(1, count + 1):
        journal.add(b"\x00" + b"c" * size, index, 1)
    return journal


def test_p01_stock_a_vote_is_given_before_it_is_durable(
    clock: Clock, tmp_path: Path, syncs: list[str]
) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    stock.elect()
    assert any(m["type"] == "response_vote" for _, _, m in stock.network.sent)
    assert syncs == []


def test_p02_stock_what_was_acknowledged_is_on_no_disk(
    clock: Clock, tmp_path: Path, syncs: list[str]
) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    leader = stock.elect()
    answers: list[tuple[object, int]] = []
    stock.nodes[leader].op("x", callback=lambda *answer: answers.append(answer))
    stock.run(5)
    assert answers == [("x", 0)]
    assert syncs == []


def test_p02_what_was_acknowledged_survives_a_power_cut_of_all(
    clock: Clock, tmp_path: Path
) -> None:
    cluster = Cluster(clock, str(tmp_path))
    outcomes = cluster.propose(cluster.elect(), b"x")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    for node_id in "ABC":
        cluster.crash(node_id)
        cluster.machines.pop(node_id)
    for node_id in "ABC":
        cluster.start(node_id)
    cluster.network.heal()
    cluster.until(lambda: all(m.commands == [b"x"] for m in cluster.machines.values()))
    cluster.close()


def test_p02_one_sync_makes_all_of_a_batch_durable(tmp_path: Path, syncs: list[str]) -> None:
    log = DurableLog.open(RealDisk(), str(tmp_path / "raft"))
    syncs.clear()
    log.set_hard_state(1, "A/00")
    for index in range(1, 101):
        log.add(b"x", index, 1)
    log.sync()
    assert syncs == ["fdatasync"]
    log.close()


def test_p03_stock_a_flipped_bit_is_loaded_as_if_it_had_been_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal_of(path, 3)._destroy()
    content = bytearray(path.read_bytes())
    content[FIRST_RECORD_OFFSET + 4 + 16 + 10] ^= 1
    path.write_bytes(content)
    journal = FileJournal(str(path))
    assert [command == b"\x00" + b"c" * 50 for command, _, _ in journal[:]] == [False, True, True]
    journal._destroy()
    content[FIRST_RECORD_OFFSET] ^= 0x40  # the first record's length
    path.write_bytes(content)
    with pytest.raises(struct.error):
        FileJournal(str(path))


def test_p04_stock_a_kill_while_the_journal_is_cut_leaves_three_entries_of_five_hundred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(tmp_path / "journal", 1000)
    add, added = journal.add, 0

    class Killed(BaseException): ...

    def add_until_killed(*entry: Any) -> None:
        nonlocal added
        added += 1
        if added > 3:
            raise Killed
        add(*entry)

    monkeypatch.setattr(journal, "add", add_until_killed)
    with pytest.raises(Killed):
        journal.deleteEntriesTo(500)
    assert len(FileJournal(str(tmp_path / "journal"))) == 3


def test_p31_stock_a_journal_never_shrinks_and_is_all_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = journal_of(path, 2000, size=1000)
    before = path.stat().st_size
    assert sum(len(command) for command, _, _ in journal._FileJournal__journal) > 2_000_000
    journal.deleteEntriesTo(1000)
    assert path.stat().st_size == before
    journal._destroy()


def test_p31_stock_a_journal_of_four_gibibytes_takes_no_more(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "journal", 1)
    journal._FileJournal__currentOffset = (1 << 32) - 16  # the file is a hole up to here
    with pytest.raises(struct.error):
        journal.add(b"\x00x", 2, 1)
    assert len(journal) == 2, "and yet it is in memory, to be acknowledged"
    journal._destroy()


def test_p32_stock_an_entry_that_the_disk_refuses_is_in_memory_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    journal = journal_of(path, 1)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(library.ResizableFile, "write", refuse)
        with pytest.raises(OSError, match="No space"):
            journal.add(b"\x00x", 2, 1)
    assert len(journal) == 2
    journal._destroy()
    assert len(FileJournal(str(path))) == 1


def test_p32_an_entry_larger_than_a_segment_is_on_the_disk(tmp_path: Path) -> None:
    directory = str(tmp_path / "raft")
    log = DurableLog.open(RealDisk(), directory, segment_bytes=4096, cache_bytes=0)
    written = [(b"x" * size, index, 1) for index, size in enumerate((50, 5000, 100_000, 50), 1)]
    for entry in written:
        log.add(*entry)
        log.sync()
    assert log[:] == written
    log.close()
    again = DurableLog.open(RealDisk(), directory, segment_bytes=4096)
    assert again[:] == written
    again.close()
