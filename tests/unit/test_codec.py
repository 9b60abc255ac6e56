"""Commands and receipts as bytes."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pickbox.changes import (
    Delete,
    Kind,
    Move,
    OnStale,
    Outcome,
    Put,
    Raise,
    Receipt,
    Status,
    Submission,
)
from pickbox.codec import (
    DecodeError,
    LevelUnknown,
    decode_command,
    decode_receipts,
    encode_command,
    encode_receipts,
    level_of,
)
from pickbox.levels import LEVEL

integers = some.integers(-(1 << 63), (1 << 63) - 1)
puts = some.builds(
    Put,
    path=some.binary(),
    kind=some.sampled_from([Kind.FILE, Kind.SYMLINK]),
    size=some.integers(0, (1 << 63) - 1),
    mode=some.integers(0, 0o777),
    mtime_ns=integers,
    digest=some.binary(min_size=32, max_size=32),
    target=some.binary(),
    inline=some.none() | some.binary(),
    holders=some.tuples(some.text()),
    base=integers,
    on_stale=some.sampled_from(OnStale),
)
deletes = some.builds(Delete, some.binary(), integers, some.sampled_from(OnStale), some.booleans())
moves = some.builds(Move, some.binary(), some.binary(), integers, integers)
raises = some.builds(Raise, some.integers(1, LEVEL), some.text())
submissions = some.builds(
    Submission,
    request_id=some.text(min_size=1, max_size=64),
    origin=some.text(),
    taken_at=integers,
    changes=some.lists(puts | deletes | moves | raises).map(tuple),
)


@given(some.lists(submissions))
def test_a_command_reads_back_as_it_was_written(written: list[Submission]) -> None:
    assert decode_command(encode_command(written)) == written


@given(some.binary())
def test_any_bytes_decode_or_raise_decode_error(data: bytes) -> None:
    for attempt in (data, bytes([LEVEL]) + data):
        with contextlib.suppress(DecodeError):
            decode_command(attempt)
        with contextlib.suppress(DecodeError):
            decode_receipts(attempt)


json_like = some.recursive(
    some.none() | some.booleans() | integers | some.text() | some.binary() | some.floats(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
)


@given(json_like)
def test_any_msgpack_decodes_or_raises_decode_error(value: object) -> None:
    data = bytes([LEVEL]) + msgpack.packb(value)
    with contextlib.suppress(DecodeError):
        decode_command(data)


def test_a_command_of_a_later_level_is_told_from_one_that_is_damaged() -> None:
    with pytest.raises(LevelUnknown, match=f"level {LEVEL + 1}; .* up to {LEVEL}"):
        decode_command(encode_command([Submission("r", "node1", 0, (Raise(LEVEL + 1, "9.9.9"),))]))


def test_a_command_says_the_highest_level_of_what_is_in_it() -> None:
    delete, put_off = Delete(b"a"), Raise(LEVEL + 3, "9.9.9")
    assert level_of(encode_command([Submission("r", "node1", 0, (delete,))])) == 1
    assert level_of(encode_command([Submission("r", "node1", 0, (delete, put_off))])) == LEVEL + 3
    assert level_of(b"") == 0


def test_a_change_of_a_later_level_than_its_command_says_is_read_by_nobody() -> None:
    data = encode_command([Submission("r", "node1", 0, (Raise(LEVEL + 1, "9.9.9"),))])
    with pytest.raises(DecodeError, match="with a change of a higher one"):
        decode_command(bytes([LEVEL]) + data[1:])


def test_receipts_read_back_as_they_were_written() -> None:
    receipts = [
        Receipt("r1", 7, (Outcome(Status.APPLIED, 3, b"a"), Outcome(Status.STALE, 2, b"\xff")))
    ]
    assert decode_receipts(encode_receipts(receipts)) == receipts
