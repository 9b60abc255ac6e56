"""How commands and receipts look as bytes: a version byte, then msgpack.

A command is what one log entry carries, ``[submission, …]``. Nothing here is ever unpickled, and
whatever the bytes are, decoding either gives well-typed values or raises `DecodeError`.
"""

from __future__ import annotations

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
    Receipt,
    Status,
    Submission,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_VERSION: Final = 1
"""First byte of every command. Newer ones are proposed only when every member knows them."""

_PUT, _DELETE, _MOVE = 1, 2, 3
_MAX_REQUEST_ID: Final = 64


class DecodeError(ValueError):
    """The bytes are not a command of a version this node knows."""


def encode_command(submissions: Sequence[Submission]) -> bytes:
    """The bytes of one log entry that carries `submissions`."""
    body = [
        [s.request_id, s.origin, s.taken_at, [_pack_change(change) for change in s.changes]]
        for s in submissions
    ]
    return bytes([COMMAND_VERSION]) + bytes(msgpack.packb(body))


def decode_command(data: bytes) -> list[Submission]:
    """Read what `encode_command` wrote.

    Raises:
        DecodeError: whatever is wrong with the bytes.
    """
    if data[:1] != bytes([COMMAND_VERSION]):
        raise DecodeError(f"command version {data[:1].hex() or 'missing'} is not known here")
    try:
        return [_unpack_submission(item) for item in msgpack.unpackb(data[1:], use_list=True)]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(str(error)) from error


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
    match change:
        case Put():
            return [
                _PUT,
                change.path,
                int(change.kind),
                change.size,
                change.mode,
                change.mtime_ns,
                change.digest,
                change.target,
                change.inline,
                list(change.holders),
                change.base,
                int(change.on_stale),
            ]
        case Delete():
            return [_DELETE, change.path, change.base, int(change.on_stale), change.recursive]
        case Move():
            return [_MOVE, change.path, change.destination, change.base, change.destination_base]


def _unpack_submission(item: Any) -> Submission:
    request_id, origin, taken_at, changes = item
    if not 1 <= len(_text(request_id)) <= _MAX_REQUEST_ID:
        raise DecodeError(f"request id of {len(request_id)} characters")
    return Submission(
        request_id, _text(origin), _integer(taken_at), tuple(_unpack_change(c) for c in changes)
    )


def _unpack_change(item: Any) -> Change:
    tag, *fields = item
    if tag == _PUT:
        return _unpack_put(fields)
    if tag == _DELETE:
        path, base, on_stale, recursive = fields
        return Delete(_bytes(path), _integer(base), OnStale(on_stale), bool(recursive))
    if tag == _MOVE:
        path, destination, base, destination_base = fields
        return Move(_bytes(path), _bytes(destination), _integer(base), _integer(destination_base))
    raise DecodeError(f"change of unknown kind {tag!r}")


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
