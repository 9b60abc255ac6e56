"""What one change does to the catalog: the rules of `pickbox.replication.rules`."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from pickbox.changes import (
    ABSENT,
    ANY_VERSION,
    PRESENT,
    Change,
    Delete,
    Entry,
    Kind,
    Move,
    OnStale,
    Outcome,
    Put,
    Receipt,
    Status,
    Submission,
)
from pickbox.codec import encode_command
from pickbox.replication.inline import InlineContent
from pickbox.replication.state_machine import StateMachine
from pickbox.storage.catalog import Catalog
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_767_268_800_000  # 2026-01-01 12:00:00 UTC, in milliseconds


class Machine:
    """A state machine with a log of its own: what one node would do."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.inline = InlineContent(Staging(bytes(directory / "staging")))
        self.touched: list[bytes] = []
        self.machine = StateMachine(
            self.catalog,
            self.inline,
            in_folder=lambda submission, put: False,
            on_applied=lambda index, touched, submissions: self.touched.extend(touched),
            on_loaded=lambda: None,
            before_snapshot=lambda: None,
            on_recalled=lambda index, submissions: None,
        )
        self.index = itertools.count(2)
        self.ids = itertools.count(1)

    def submit(self, *changes: Change, origin: str = "node1", request_id: str = "") -> Receipt:
        submission = Submission(request_id or f"r{next(self.ids)}", origin, NOON, changes)
        return self.machine.apply(next(self.index), encode_command([submission]))[0]

    def do(self, change: Change, origin: str = "node1") -> Outcome:
        return self.submit(change, origin=origin).outcomes[0]

    def paths(self) -> list[bytes]:
        return [entry.path for entry in self.catalog.under(b"")]

    def entry(self, path: bytes) -> Entry:
        entry = self.catalog.get(path)
        assert entry is not None, path
        return entry


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def file(path: bytes, content: bytes = b"x", **fields: object) -> Put:
    digest = blake3(content).digest()
    return Put(path, Kind.FILE, len(content), 0o644, 1, digest, inline=content, **fields)  # type: ignore[arg-type]


def directory(path: bytes, **fields: object) -> Put:
    return Put(path, Kind.DIRECTORY, 0, 0o755, 0, b"", **fields)  # type: ignore[arg-type]


def link(path: bytes, target: bytes, **fields: object) -> Put:
    digest = blake3(target).digest()
    return Put(path, Kind.SYMLINK, len(target), 0o777, 1, digest, target, **fields)  # type: ignore[arg-type]


def test_a_put_makes_the_directories_above_it(machine: Machine) -> None:
    outcome = machine.do(file(b"a/b/c.txt"))
    assert outcome.status is Status.APPLIED
    assert machine.paths() == [b"a", b"a/b", b"a/b/c.txt"]
    assert machine.entry(b"a/b").kind is Kind.DIRECTORY


def test_versions_only_grow(machine: Machine) -> None:
    versions = [machine.do(file(b"f", bytes([n]))).version for n in range(5)]
    assert versions == sorted(set(versions))


def test_a_put_that_says_the_same_changes_nothing(machine: Machine) -> None:
    first = machine.do(file(b"f"))
    again = machine.do(file(b"f", base=ABSENT))
    assert (again.status, again.version) == (Status.UNCHANGED, first.version)


def test_a_folder_edit_on_an_old_version_becomes_a_conflict_copy(machine: Machine) -> None:
    old = machine.do(file(b"d/note.txt", b"one")).version
    new = machine.do(file(b"d/note.txt", b"two", base=old)).version
    lost = machine.do(file(b"d/note.txt", b"three", base=old), origin="node2")
    assert lost.status is Status.CONFLICT
    assert lost.version == new
    assert lost.path == b"d/note.sync-conflict-20260101-120000-node2.txt"
    assert machine.entry(b"d/note.txt").digest == blake3(b"two").digest()
    assert machine.entry(lost.path).digest == blake3(b"three").digest()


def test_equal_bytes_make_no_conflict_copy(machine: Machine) -> None:
    old = machine.do(file(b"f", b"one")).version
    machine.do(file(b"f", b"two", base=old))
    again = machine.do(file(b"f", b"two", base=old), origin="node2")
    assert again.status is Status.UNCHANGED
    assert machine.paths() == [b"f"]


def test_the_same_losing_content_makes_one_copy(machine: Machine) -> None:
    old = machine.do(file(b"f", b"one")).version
    machine.do(file(b"f", b"two", base=old))
    first = machine.do(file(b"f", b"three", base=old))
    second = machine.do(file(b"f", b"three", base=old))
    assert first.path == second.path
    assert len(machine.paths()) == 2


def test_a_conflict_copy_never_has_conflict_copies(machine: Machine) -> None:
    name = b"f.sync-conflict-20260101-120000-node2.txt"
    old = machine.do(file(name, b"one")).version
    machine.do(file(name, b"two", base=old))
    third = machine.do(file(name, b"three", base=old))
    assert third.status is Status.APPLIED
    assert machine.paths() == [name]


def test_at_most_ten_conflict_copies_are_kept_of_one_file(machine: Machine) -> None:
    old = machine.do(file(b"f.txt", b"base")).version
    machine.do(file(b"f.txt", b"current", base=old))
    copies = [machine.do(file(b"f.txt", b"%d" % n, base=old)).path for n in range(14)]
    kept = [path for path in machine.paths() if path != b"f.txt"]
    assert len(kept) == 10
    assert set(kept) == set(copies[-10:])


def test_a_conditional_put_on_an_old_version_is_refused(machine: Machine) -> None:
    old = machine.do(file(b"f", b"one")).version
    new = machine.do(file(b"f", b"two", base=old)).version
    refused = machine.do(file(b"f", b"three", base=old, on_stale=OnStale.REFUSE))
    assert (refused.status, refused.version) == (Status.STALE, new)
    assert machine.paths() == [b"f"]


def test_of_two_who_make_the_same_file_one_is_told_that_it_did_not(machine: Machine) -> None:
    make = file(b"lock", base=ABSENT, on_stale=OnStale.REFUSE)
    assert machine.do(make).status is Status.APPLIED
    assert machine.do(make).status is Status.STALE


def test_whatever_is_there_may_be_replaced_but_not_nothing(machine: Machine) -> None:
    nothing = machine.do(file(b"f", b"one", base=PRESENT, on_stale=OnStale.REFUSE))
    assert (nothing.status, nothing.version) == (Status.STALE, ABSENT)
    machine.do(file(b"f", b"one"))
    there = machine.do(file(b"f", b"two", base=PRESENT, on_stale=OnStale.REFUSE))
    assert there.status is Status.APPLIED
    assert machine.do(Delete(b"f", PRESENT, OnStale.REFUSE)).status is Status.APPLIED
    assert machine.do(Delete(b"f", PRESENT, OnStale.REFUSE)).status is Status.STALE


def test_an_edit_beats_a_concurrent_delete(machine: Machine) -> None:
    old = machine.do(file(b"f", b"one")).version
    assert machine.do(Delete(b"f", old)).status is Status.APPLIED
    assert machine.do(file(b"f", b"edited", base=old)).status is Status.APPLIED
    assert machine.entry(b"f").digest == blake3(b"edited").digest()


def test_a_delete_of_an_old_version_is_dropped(machine: Machine) -> None:
    old = machine.do(file(b"f", b"one")).version
    machine.do(file(b"f", b"two", base=old))
    assert machine.do(Delete(b"f", old)).status is Status.DROPPED
    assert machine.paths() == [b"f"]


def test_a_deleted_file_stays_deleted(machine: Machine) -> None:
    version = machine.do(file(b"f")).version
    machine.do(Delete(b"f", version))
    assert machine.do(Delete(b"f", version)).status is Status.UNCHANGED
    assert machine.paths() == []


def test_a_directory_with_entries_is_deleted_only_recursively(machine: Machine) -> None:
    machine.do(file(b"d/f"))
    refused = machine.do(Delete(b"d", on_stale=OnStale.REFUSE))
    assert refused.status is Status.REFUSED
    assert refused.reason.startswith("directory-not-empty")
    assert machine.do(Delete(b"d", recursive=True)).status is Status.APPLIED
    assert machine.paths() == []


def test_a_neighbour_with_the_same_prefix_survives_a_recursive_delete(machine: Machine) -> None:
    machine.submit(file(b"d/f"), file(b"d-e"), file(b"d0"), file(b"d.txt"))
    machine.do(Delete(b"d", recursive=True))
    assert machine.paths() == [b"d-e", b"d.txt", b"d0"]


def test_a_directory_beats_a_file_which_moves_to_a_conflict_name(machine: Machine) -> None:
    machine.do(file(b"a", b"was a file"))
    outcome = machine.do(file(b"a/b", b"below it", base=ABSENT), origin="node2")
    assert outcome.status is Status.APPLIED
    assert machine.paths() == [b"a", b"a.sync-conflict-20260101-120000-node2", b"a/b"]
    aside = machine.entry(b"a.sync-conflict-20260101-120000-node2")
    assert aside.digest == blake3(b"was a file").digest()


def test_a_directory_keeps_its_mode_though_its_child_reached_the_log_first(
    machine: Machine,
) -> None:
    machine.do(file(b"d/f"))
    assert machine.entry(b"d").mode == 0o755
    outcome = machine.do(replace(directory(b"d", base=ABSENT), mode=0o700))
    assert outcome.status is Status.APPLIED
    assert machine.entry(b"d").mode == 0o700


def test_of_two_who_make_a_directory_the_first_decides_on_its_mode(machine: Machine) -> None:
    machine.do(replace(directory(b"d", base=ABSENT), mode=0o700))
    outcome = machine.do(replace(directory(b"d", base=ABSENT), mode=0o750), origin="node2")
    assert outcome.status is Status.UNCHANGED
    assert machine.entry(b"d").mode == 0o700


def test_http_is_told_that_a_parent_is_not_a_directory(machine: Machine) -> None:
    machine.do(file(b"a"))
    refused = machine.do(file(b"a/b", on_stale=OnStale.REFUSE))
    assert refused.status is Status.REFUSED
    assert "not a directory" in refused.reason


def test_a_link_in_the_way_is_never_followed(machine: Machine) -> None:
    machine.do(link(b"a", b"/etc"))
    refused = machine.do(file(b"a/passwd", on_stale=OnStale.REFUSE))
    assert refused.status is Status.REFUSED


def test_a_file_replaced_by_a_directory_on_its_own_version(machine: Machine) -> None:
    version = machine.do(file(b"a")).version
    assert machine.do(directory(b"a", base=version)).status is Status.APPLIED
    assert machine.paths() == [b"a"]
    assert machine.entry(b"a").kind is Kind.DIRECTORY


def test_a_move_takes_everything_below_along(machine: Machine) -> None:
    machine.submit(file(b"old/a", b"1"), file(b"old/sub/b", b"2"), file(b"older", b"3"))
    outcome = machine.do(Move(b"old", b"new/home"))
    assert outcome.status is Status.APPLIED
    assert machine.paths() == [
        b"new",
        b"new/home",
        b"new/home/a",
        b"new/home/sub",
        b"new/home/sub/b",
        b"older",
    ]


@pytest.mark.parametrize(
    ("move", "status"),
    [
        (Move(b"missing", b"x"), Status.STALE),
        (Move(b"d", b"d/inside"), Status.REFUSED),
        (Move(b"f", b"g"), Status.STALE),
        (Move(b"f", b"g", destination_base=ANY_VERSION), Status.APPLIED),
        (Move(b"f", b"d", destination_base=ANY_VERSION), Status.REFUSED),
        (Move(b"d", b"f", destination_base=ANY_VERSION), Status.REFUSED),
        (Move(b"f", b"f"), Status.UNCHANGED),
        (Move(b"f", b"../out"), Status.REFUSED),
    ],
)
def test_a_move_is_refused_where_it_would_lose_something(
    machine: Machine, move: Move, status: Status
) -> None:
    machine.submit(file(b"f", b"1"), file(b"g", b"2"), file(b"d/x", b"3"))
    before = machine.paths()
    assert machine.do(move).status is status
    if status is not Status.APPLIED:
        assert machine.paths() == before


def test_a_bad_path_is_refused_at_apply_too(machine: Machine) -> None:
    for path in (b"../x", b"/etc/passwd", b"a//b", b"a/./b", b"", b".pickbox/id", b"a\0b"):
        outcome = machine.do(file(path))
        assert outcome.status is Status.REFUSED, path
    assert machine.paths() == []


def test_content_that_is_not_what_its_digest_says_is_refused(machine: Machine) -> None:
    lie = Put(b"f", Kind.FILE, 3, 0o644, 1, blake3(b"abc").digest(), inline=b"abd")
    assert machine.do(lie).status is Status.REFUSED
    assert machine.paths() == []


def test_a_request_is_never_applied_twice(machine: Machine) -> None:
    first = machine.submit(file(b"f", b"1"), request_id="same")
    machine.submit(file(b"f", b"2"))
    again = machine.submit(file(b"f", b"1"), request_id="same")
    assert again == first
    assert machine.entry(b"f").digest == blake3(b"2").digest()


def test_a_recalled_entry_changes_nothing_and_keeps_what_is_not_placed(machine: Machine) -> None:
    command = encode_command([Submission("r", "node1", NOON, (file(b"f", b"content"),))])
    machine.machine.apply(7, command)
    digest = blake3(b"content").digest()
    machine.inline.forget(digest)
    before, state = machine.entry(b"f"), machine.machine.state_hash()
    machine.machine.recall(7, command)
    assert machine.entry(b"f") == before
    assert machine.machine.state_hash() == state
    assert machine.inline.get(digest) == b"content"


def test_a_recalled_entry_keeps_no_content_that_was_replaced(machine: Machine) -> None:
    command = encode_command([Submission("r", "node1", NOON, (file(b"f", b"content"),))])
    machine.machine.apply(7, command)
    machine.submit(file(b"f", b"newer"))
    machine.inline.forget(blake3(b"content").digest())
    machine.machine.recall(7, command)
    assert machine.inline.get(blake3(b"content").digest()) is None


def test_the_state_hash_tells_every_field_of_an_entry_and_comes_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    seen = {machine.machine.state_hash()}
    for change in (
        file(b"f", b"1"),
        file(b"f", b"2"),
        replace(file(b"f", b"2"), mode=0o600),
        replace(file(b"f", b"2"), mtime_ns=5),
        Move(b"f", b"g"),
        Delete(b"g"),
    ):
        machine.submit(change)
        state = machine.machine.state_hash()
        assert state not in seen
        seen.add(state)
    machine.catalog.close()
    assert Catalog(str(tmp_path / "catalog.db")).state_hash == state


def test_a_dump_is_of_the_moment_in_which_it_was_begun(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    one.submit(file(b"f", b"1"))
    state = one.machine.state_hash()
    write = one.machine.begin_dump()
    one.submit(file(b"g", b"later"))
    write(str(tmp_path / "dump"))
    two.submit(file(b"h", b"gone with the load"))
    two.machine.load(str(tmp_path / "dump"))
    assert two.machine.state_hash() == state
    assert (two.catalog.get(b"f"), two.catalog.get(b"g")) == (one.entry(b"f"), None)


def test_two_nodes_agree_after_the_same_commands(tmp_path: Path) -> None:
    one, two = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    changes: list[Change] = [
        file(b"a/b", b"1"),
        file(b"a/b", b"2", base=ABSENT),
        file(b"a", b"3", base=ABSENT),
        Move(b"a", b"z"),
        Delete(b"z/b", base=1),
        link(b"z/l", b"b"),
        directory(b"z/l", base=ABSENT),
    ]
    for machine in (one, two):
        for change in changes:
            machine.do(change, origin="node3")
    assert list(one.catalog.under(b"")) == list(two.catalog.under(b""))
    assert len(one.paths()) > 3
