"""Frames: 4 bytes of length (big-endian, of what follows), 1 byte of kind, the body (msgpack)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final

import msgpack

MAX_FRAME: Final = 16 << 20
"""Longest kind and body, in bytes. What is longer is sent in parts, as snapshots are."""

MAX_HELLO: Final = 4 << 10
"""The same before a peer has said who it is."""

_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IB")


class FrameError(Exception):
    """What came is not a frame of this protocol; the text says why."""


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    BYE = 2
    PING = 3
    MESSAGE = 4


def encode(kind: Kind, body: Any = None) -> bytes:
    """One frame. Raises `FrameError` if it is too long, or `body` is not for msgpack."""
    try:
        packed: bytes = msgpack.packb(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"cannot be encoded: {error}") from error
    if len(packed) + 1 > MAX_FRAME:
        raise FrameError(f"{len(packed)} bytes, and a frame has at most {MAX_FRAME}")
    return _HEAD.pack(len(packed) + 1, kind) + packed


def decode(body: bytes | bytearray) -> Any:
    """What `encode` was given; tuples come back as lists."""
    try:
        return msgpack.unpackb(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FrameError(f"the body is not msgpack: {error}") from error


class FrameReader:
    """Cuts a stream into frames. Holds at most one frame and what was fed at once."""

    def __init__(self, limit: int = MAX_HELLO) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        self._buffer += data

    def next(self) -> tuple[Kind, bytes] | None:
        """The next whole frame, or None. Raises `FrameError` as soon as the head is wrong."""
        have = len(self._buffer) - self._start
        if have < _LENGTH.size:
            self._forget_read()
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if not 1 <= length <= self.limit:
            raise FrameError(f"a frame of {length} bytes is announced; 1 to {self.limit} may come")
        if have < _LENGTH.size + length:
            self._forget_read()
            return None
        body = self._start + _HEAD.size
        self._start += _LENGTH.size + length
        try:
            kind = Kind(self._buffer[body - 1])
        except ValueError:
            raise FrameError(f"frames of kind {self._buffer[body - 1]} are not known") from None
        return kind, bytes(memoryview(self._buffer)[body : self._start])

    def _forget_read(self) -> None:
        """Let go of what was read; only here, so that a burst of frames moves no bytes."""
        del self._buffer[: self._start]
        self._start = 0
