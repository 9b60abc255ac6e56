"""How commands and receipts look as bytes: the level of a command, then msgpack.

A command is what one log entry carries, ``[submission, …]``. Its first byte is the highest level
(`pickbox.levels`) of what is in it, so that a node knows whether it understands it all. Nothing
here is ever unpickled, and whatever the bytes are, decoding either gives well-typed values or
raises `DecodeError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack

from pickbox.changes import (
    DIGEST_BYTES,
    Change,
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
from pickbox.levels import FIRST_LEVEL, LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_REQUEST_ID: Final = 64


class DecodeError(ValueError):
    """The bytes are not a command that this release understands."""


class LevelUnknown(DecodeError):
    """The command is of a level that this release does not understand: a newer one does."""


def encode_command(submissions: Sequence[Submission]) -> bytes:
    """The bytes of one log entry that carries `submissions`."""
    body = [
        [s.request_id, s.origin, s.taken_at, [_pack_change(change) for change in s.changes]]
        for s in submissions
    ]
    levels = [change.level for s in submissions for change in s.changes]
    return bytes([max(levels, default=FIRST_LEVEL)]) + bytes(msgpack.packb(body))


def level_of(command: bytes) -> int:
    """The level that a node must understand to read `command`; 0 if it is none."""
    return command[0] if command else 0


def decode_command(data: bytes) -> list[Submission]:
    """Read what `encode_command` wrote.

    Raises:
        LevelUnknown: it needs a newer release.
        DecodeError: whatever else is wrong with the bytes.
    """
    level = level_of(data)
    if level > LEVEL:
        raise LevelUnknown(f"a command of level {level}; this release understands up to {LEVEL}")
    try:
        submissions = [_unpack_submission(s) for s in msgpack.unpackb(data[1:], use_list=True)]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(str(error)) from error
    if any(change.level > level for s in submissions for change in s.changes):
        # A release that does not know the change would not read it: then nobody may.
        raise DecodeError(f"a command of level {level} with a change of a higher one")
    return submissions


def encode_receipts(receipts: Sequence[Receipt]) -> bytes:
    """Receipts for the way between nodes, or for the catalog's request table."""
    return bytes(
        msgpack.packb(
            [
                [
                    r.request_id,
                    r.index,
                    [[o.status.value, o.version, o.path, o.reason] for o in r.outcomes],
                ]
                for r in receipts
            ]
        )
    )


def decode_receipts(data: bytes) -> list[Receipt]:
    """Read what `encode_receipts` wrote.

    Raises:
        DecodeError: the bytes are something else.
    """
    try:
        return [
            Receipt(
                _text(request_id),
                _integer(index),
                tuple(
                    Outcome(Status(s), _integer(v), _bytes(p), _text(r)) for s, v, p, r in outcomes
                ),
            )
            for request_id, index, outcomes in msgpack.unpackb(data, use_list=True)
        ]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(str(error)) from error


def _pack_change(change: Change) -> list[Any]:
    coding = _BY_TYPE[type(change)]
    return [coding.tag, *coding.pack(change)]


def _unpack_submission(item: Any) -> Submission:
    request_id, origin, taken_at, changes = item
    if not 1 <= len(_text(request_id)) <= _MAX_REQUEST_ID:
        raise DecodeError(f"request id of {len(request_id)} characters")
    return Submission(
        request_id, _text(origin), _integer(taken_at), tuple(_unpack_change(c) for c in changes)
    )


def _unpack_change(item: Any) -> Change:
    tag, *fields = item
    coding = _BY_TAG.get(tag)
    if coding is None:
        raise DecodeError(f"change of unknown kind {tag!r}")
    return coding.unpack(fields)


def _pack_put(put: Put) -> list[Any]:
    return [
        put.path,
        int(put.kind),
        put.size,
        put.mode,
        put.mtime_ns,
        put.digest,
        put.target,
        put.inline,
        list(put.holders),
        put.base,
        int(put.on_stale),
    ]


def _unpack_put(fields: list[Any]) -> Put:
    path, kind, size, mode, mtime_ns, digest, target, inline, holders, base, on_stale = fields
    kind = Kind(kind)
    if len(_bytes(digest)) != (0 if kind is Kind.DIRECTORY else DIGEST_BYTES):
        raise DecodeError(f"digest of {len(digest)} bytes")
    if _integer(size) < 0 or _integer(mode) & ~0o777:
        raise DecodeError(f"size {size} or mode {mode:o} out of range")
    return Put(
        _bytes(path),
        kind,
        size,
        mode,
        _integer(mtime_ns),
        digest,
        _bytes(target),
        None if inline is None else _bytes(inline),
        tuple(_text(holder) for holder in holders),
        _integer(base),
        OnStale(on_stale),
    )


def _pack_delete(delete: Delete) -> list[Any]:
    return [delete.path, delete.base, int(delete.on_stale), delete.recursive]


def _unpack_delete(fields: list[Any]) -> Delete:
    path, base, on_stale, recursive = fields
    return Delete(_bytes(path), _integer(base), OnStale(on_stale), bool(recursive))


def _pack_move(move: Move) -> list[Any]:
    return [move.path, move.destination, move.base, move.destination_base]


def _unpack_move(fields: list[Any]) -> Move:
    path, destination, base, destination_base = fields
    return Move(_bytes(path), _bytes(destination), _integer(base), _integer(destination_base))


def _pack_raise(raised: Raise) -> list[Any]:
    return [raised.level, raised.release]


def _unpack_raise(fields: list[Any]) -> Raise:
    level, release = fields
    return Raise(_integer(level), _text(release))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise DecodeError(f"expected bytes, found {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DecodeError(f"expected text, found {type(value).__name__}")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
        raise DecodeError(f"expected a 64-bit integer, found {value!r:.40}")
    return value


@dataclass(frozen=True, slots=True)
class _Coding:
    """How one kind of change looks in a command: a number that stays, and its fields."""

    tag: int
    kind: type[Change]
    pack: Callable[[Any], list[Any]]
    unpack: Callable[[list[Any]], Change]


_CODINGS: Final = (
    _Coding(1, Put, _pack_put, _unpack_put),
    _Coding(2, Delete, _pack_delete, _unpack_delete),
    _Coding(3, Move, _pack_move, _unpack_move),
    _Coding(4, Raise, _pack_raise, _unpack_raise),
)
_BY_TYPE: Final = {coding.kind: coding for coding in _CODINGS}
_BY_TAG: Final = {coding.tag: coding for coding in _CODINGS}
