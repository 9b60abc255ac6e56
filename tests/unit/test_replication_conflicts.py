"""Names of conflict copies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from pickbox.errors import InvalidPath
from pickbox.replication.conflicts import (
    conflict_name,
    copies_prefix,
    is_conflict_copy,
    is_copy_of,
)
from pickbox.storage.paths import check_path

NOON = 1_767_268_800_000  # 2026-01-01 12:00:00 UTC, in milliseconds


def valid(path: bytes) -> bool:
    try:
        check_path(path)
    except InvalidPath:
        return False
    return True


paths = some.binary(min_size=1, max_size=300).filter(valid) | some.lists(
    some.text("abc.~-é", min_size=1, max_size=200).map(str.encode), min_size=1, max_size=4
).map(b"/".join).filter(valid)


def test_the_name_tells_when_and_where_and_keeps_the_extension() -> None:
    name = conflict_name(b"docs/report.final.txt", NOON, "node2")
    assert name == b"docs/report.final.sync-conflict-20260101-120000-node2.txt"


def test_a_dot_file_keeps_its_dot() -> None:
    assert conflict_name(b"a/.bashrc", NOON, "n1") == (
        b"a/.bashrc.sync-conflict-20260101-120000-n1"
    )


def test_a_second_name_in_the_same_second_differs() -> None:
    assert conflict_name(b"f.c", NOON, "n1", 1) == b"f.sync-conflict-20260101-120000-n1~1.c"


def test_two_long_names_keep_two_conflict_names() -> None:
    one, two = b"x" * 254 + b"1", b"x" * 254 + b"2"
    assert conflict_name(one, NOON, "node1") != conflict_name(two, NOON, "node1")


@given(paths, some.integers(-(1 << 62), 1 << 62), some.integers(0, 12))
def test_every_conflict_name_is_a_valid_path_in_the_same_directory(
    path: bytes, taken_at: int, attempt: int
) -> None:
    name = conflict_name(path, taken_at, "a-node-of-thirty-two-characters0", attempt)
    assert name.rpartition(b"/")[0] == path.rpartition(b"/")[0]
    assert len(name.rpartition(b"/")[2]) <= 255
    assert is_conflict_copy(name)
    if len(name) <= 4096:
        check_path(name)


@given(paths)
def test_a_copy_is_known_as_the_copy_of_its_file_only(path: bytes) -> None:
    name = conflict_name(path, NOON, "node1")
    if name.startswith(copies_prefix(path)):  # not so for names too long to carry the mark
        assert is_copy_of(name, path)
    assert not is_copy_of(name, path + b"x")
    assert not is_copy_of(path, path)
