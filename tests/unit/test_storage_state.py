"""The state manager's rows survive, keep their order, and can be read while they are written."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pickbox.changes import Entry, Kind
from pickbox.known import KnownState, Revision
from pickbox.storage import state as state_module
from pickbox.storage.digest import digest_bytes
from pickbox.storage.state import StateDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "state.db")


@pytest.fixture
def state(path: bytes) -> Iterator[StateDatabase]:
    database = StateDatabase(path)
    yield database
    database.close()


def row(path: bytes, *, inode: int = 1, content: bytes = b"") -> KnownState:
    return KnownState(path, Kind.FILE, 5, 0o644, 1, 2, inode, digest_bytes(content), 7)


def test_a_row_is_read_back_as_it_was_written(state: StateDatabase) -> None:
    odd = KnownState(
        b"bad\xff\n'", Kind.SYMLINK, 1 << 50, 0o777, -5, 1 << 62, (1 << 64) - 1, b"d" * 32, 1 << 40
    )
    state.put([odd, row(b"b")])
    assert state.get(odd.path) == odd
    assert state.get(b"b") == row(b"b")
    assert state.get(b"missing") is None
    assert state.count() == 2


def test_times_past_2262_and_64_bit_inodes_are_kept(state: StateDatabase) -> None:
    far = replace(row(b"far", inode=(1 << 63) + 3), mtime_ns=13_569_465_600 * 10**9)
    state.put([far])
    assert state.get(b"far") == far
    assert state.with_inode(far.inode) == [far]


def test_the_later_row_of_a_path_replaces_the_earlier(state: StateDatabase) -> None:
    state.put([row(b"a", inode=1, content=b"old")])
    state.put([row(b"a", inode=2, content=b"new")])
    assert state.count() == 1
    assert state.with_inode(1) == []
    assert state.with_digest(digest_bytes(b"old")) == []
    assert [known.path for known in state.with_digest(digest_bytes(b"new"))] == [b"a"]


def test_forgotten_paths_are_gone_and_others_are_not(state: StateDatabase) -> None:
    state.put([row(b"a"), row(b"a/b"), row(b"c")])
    state.forget([row(b"a"), row(b"never known")])
    assert [known.path for known in state.under(b"")] == [b"a/b", b"c"]


def test_rows_survive_a_new_start(path: bytes) -> None:
    first = StateDatabase(path)
    first.put([row(b"a")])
    first.close()
    second = StateDatabase(path)
    assert second.get(b"a") == row(b"a")
    second.close()


def test_under_a_directory_are_its_own_row_and_all_in_it(state: StateDatabase) -> None:
    state.put(row(path) for path in (b"a", b"a-b", b"a/x", b"a/x/y", b"a0", b"ab", b"b/a"))
    assert [known.path for known in state.under(b"a")] == [b"a", b"a/x", b"a/x/y"]
    assert [known.path for known in state.under(b"b")] == [b"b/a"]
    assert list(state.under(b"nothing")) == []


@given(paths=some.sets(some.binary(min_size=1, max_size=4)), page=some.integers(1, 4))
@settings(max_examples=50)
def test_all_rows_come_in_path_order_whatever_the_page(
    tmp_path_factory: pytest.TempPathFactory, paths: set[bytes], page: int
) -> None:
    file = os.fsencode(tmp_path_factory.mktemp("state") / "state.db")
    database = StateDatabase(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "PAGE_ROWS", page)
        database.put(row(path) for path in paths)
        assert [known.path for known in database.under(b"")] == sorted(paths)
    database.close()


def test_rows_can_be_written_while_others_iterate(
    state: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "PAGE_ROWS", 2)
    state.put(row(b"%d" % number) for number in range(8))
    seen = []
    for known in state.under(b""):
        seen.append(known.path)
        state.forget([known])
    assert seen == [b"%d" % number for number in range(8)]
    assert state.count() == 0


def test_a_reader_does_not_wait_for_a_writer(state: StateDatabase) -> None:
    state.put([row(b"a")])
    with state.transaction() as connection:
        connection.execute("DELETE FROM known")
        got: list[KnownState | None] = []
        reader = threading.Thread(target=lambda: got.append(state.get(b"a")))
        reader.start()
        reader.join(timeout=10)
        assert got == [row(b"a")]
    assert state.get(b"a") is None


def test_a_transaction_that_fails_changes_nothing(state: StateDatabase) -> None:
    state.put([row(b"a")])
    bad = replace(row(b"b"), digest=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        state.put([row(b"c"), bad])
    assert [known.path for known in state.under(b"")] == [b"a"]
    state.put([row(b"c")])
    assert state.count() == 2


def test_many_threads_read_and_write_at_once(state: StateDatabase) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                mine = [row(b"%d/%d/%d" % (number, turn, item)) for item in range(5)]
                state.put(mine)
                assert [state.get(known.path) for known in mine] == mine
                assert len(list(state.under(b"%d/%d" % (number, turn)))) == 5
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert state.count() == 6 * 30 * 5


def test_a_lookup_takes_microseconds_among_many_rows(state: StateDatabase) -> None:
    state.put(row(b"directory/%d" % number, inode=number) for number in range(20_000))
    started = time.perf_counter()
    for number in range(0, 20_000, 10):
        assert state.get(b"directory/%d" % number) is not None
    each = (time.perf_counter() - started) / 2000
    assert each < 500e-6, f"{each * 1e6:.0f} µs, where about 10 are usual"


def test_what_is_announced_is_known_until_its_row_is_written(state: StateDatabase) -> None:
    entry = Entry(b"p", Kind.FILE, 5, 0o644, -1, digest_bytes(b""), b"", 8, origin="")
    state.announce([entry])
    assert state.look_up(b"p") == (None, entry)
    older = replace(row(b"p"), version=7)
    state.put([older])
    assert state.look_up(b"p") == (older, entry), "an older version's row says nothing of this one"
    placed = replace(row(b"p"), version=8)
    state.put([placed])
    assert state.look_up(b"p") == (placed, None)
    state.announce([replace(entry, version=9)])
    state.forget([placed])
    assert state.look_up(b"p") == (None, None)


def test_a_later_row_is_not_undone_by_who_looked_before_it_was_written(
    state: StateDatabase,
) -> None:
    seen = replace(row(b"p"), version=7)
    later = replace(row(b"p", inode=2), version=8)
    state.put([seen])
    state.put([later])
    assert state.revise([Revision(b"p", seen.version, replace(seen, ctime_ns=99))]) == [b"p"]
    state.forget([seen])
    assert state.answered("id", [Revision(b"p", seen.version, None)]) == [b"p"]
    assert state.get(b"p") == later
    assert state.revise([Revision(b"p", later.version, replace(later, version=0))]) == []
    assert state.revise([Revision(b"p", later.version, None)]) == []
    assert state.get(b"p") is None


def test_what_is_proposed_is_known_until_it_is_answered(path: bytes, state: StateDatabase) -> None:
    edit, delete = Revision(b"p", 7, row(b"p")), Revision(b"q", 3, None)
    state.propose("id", [edit, delete])
    again = StateDatabase(path)
    assert again.proposed() == {"id": [edit, delete]}
    again.answered("id", [edit, delete])
    assert again.proposed() == {}
    again.close()
    assert state.get(b"p") == edit.row
