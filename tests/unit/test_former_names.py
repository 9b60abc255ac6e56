"""What is at a path may have had other names."""

from __future__ import annotations

from pickbox.watcher.former_names import FormerNames


def names(path: bytes, *moves: tuple[bytes, bytes]) -> set[bytes]:
    former = FormerNames()
    for source, destination in moves:
        former.note(source, destination)
    return former.of(path)


def test_what_was_never_moved_has_one_name() -> None:
    assert names(b"a", (b"b", b"c")) == {b"a"}


def test_moves_are_followed_back_to_the_first_name() -> None:
    assert names(b"c", (b"a", b"b"), (b"b", b"c")) == {b"a", b"b", b"c"}


def test_what_is_in_a_directory_goes_with_it() -> None:
    assert names(b"e/x/f", (b"d", b"e"), (b"y", b"e/x")) == {b"e/x/f", b"d/x/f", b"y/f"}


def test_a_like_beginning_is_no_directory() -> None:
    assert names(b"e/f2", (b"d", b"e/f")) == {b"e/f2"}


def test_only_what_was_moved_before_came_along() -> None:
    assert names(b"c", (b"b", b"c"), (b"a", b"b")) == {b"b", b"c"}


def test_moves_to_and_fro_come_to_an_end() -> None:
    deeper = ((b"b", b"a"), (b"a/x", b"b")) * 100
    assert {b"b", b"a/x", b"b/x", b"a/x/x"} <= names(b"b", *deeper)
    to_and_fro = ((b"a", b"b"), (b"b", b"a")) * 10_000
    assert names(b"a", *to_and_fro) == {b"a", b"b"}
