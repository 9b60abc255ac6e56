"""etcd's `KV.Put` on one HTTP/2 connection, with as little work as the protocol allows.

gRPC over HTTP/2 (RFC 9113): every call is a stream with the same six header fields, which after the
first call are six bytes (HPACK, RFC 7541), and one message. A call that fails has an answer without
a message, so headers of answers are not decoded.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from typing import Final

_FRAME: Final = struct.Struct(">BHBBI")  # length in 24 bits, type, flags, stream
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FIRST_WINDOW: Final = 65_535
_LARGEST_WINDOW: Final = (1 << 31) - 1
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_END_HEADERS: Final = 0x4


class _Frame(enum.IntEnum):
    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8


class EtcdGone(Exception):
    """The server ended the connection."""


def _field(head: bytes, *texts: bytes) -> bytes:
    """A header field that both sides remember from now on."""
    return head + b"".join(bytes([len(text)]) + text for text in texts)


# Method POST and scheme http are in HPACK's static table, as are the names of the next three.
_FIRST_HEADERS: Final = b"\x83\x86" + b"".join(
    (
        _field(b"\x44", b"/etcdserverpb.KV/Put"),
        _field(b"\x41", b"etcd"),
        _field(b"\x5f", b"application/grpc"),
        _field(b"\x40", b"te", b"trailers"),
    )
)
_HEADERS: Final = b"\x83\x86\xc1\xc0\xbf\xbe"
"""The same again: four fields by their place among those that are remembered."""


def _frame(kind: _Frame, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _put_request(key: bytes, value: bytes) -> bytes:
    """`etcdserverpb.PutRequest` with gRPC's prefix: not compressed, length."""
    message = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return struct.pack(">BI", 0, len(message)) + message


class EtcdWire:
    """One connection's bytes; see `load.Wire`. Values are put under one key."""

    def __init__(self, key: bytes = b"bench") -> None:
        self._key = key
        self._stream = -1
        settings = struct.pack(">HI", 0x1, 0)  # the server remembers no fields of its answers
        wide = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        self._out: list[bytes] = [
            _PREFACE,
            _frame(_Frame.SETTINGS, 0, 0, settings),
            _frame(_Frame.WINDOW_UPDATE, 0, 0, wide),
        ]
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._window = _FIRST_WINDOW
        self._rest = b""
        self._answered: set[int] = set()

    def put(self, value: bytes) -> int:
        """Put `value`; returns the number that the answer will have."""
        self._stream += 2
        self._waiting.append((self._stream, _put_request(self._key, value)))
        return self._stream

    def outgoing(self) -> bytes:
        """What is to be sent now, and may be by the server's window for this connection."""
        while self._waiting and len(self._waiting[0][1]) <= self._window:
            stream, message = self._waiting.popleft()
            self._window -= len(message)
            headers = _FIRST_HEADERS if stream == 1 else _HEADERS
            self._out += (
                _frame(_Frame.HEADERS, _END_HEADERS, stream, headers),
                _frame(_Frame.DATA, _END_STREAM, stream, message),
            )
        out, self._out = self._out, []
        return b"".join(out)

    def feed(self, data: bytes) -> tuple[list[int], list[int]]:
        """Numbers of the requests that are committed, and of those that are not."""
        data = self._rest + data
        committed: list[int] = []
        refused: list[int] = []
        at = 0
        while len(data) - at >= _FRAME.size:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + (high << 16 | low)
            if end > len(data):
                break
            if kind == _Frame.DATA:
                self._answered.add(stream)
            elif kind == _Frame.HEADERS:
                if flags & _END_STREAM:
                    (committed if stream in self._answered else refused).append(stream)
                    self._answered.discard(stream)
            elif kind == _Frame.RST_STREAM:
                refused.append(stream)
            else:
                self._control(kind, flags, stream, data[at + _FRAME.size : end])
            at = end
        self._rest = data[at:]
        return committed, refused

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _Frame.WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
        elif kind == _Frame.SETTINGS and not flags & _ACK:
            self._out.append(_frame(_Frame.SETTINGS, _ACK, 0, b""))
        elif kind == _Frame.PING and not flags & _ACK:
            self._out.append(_frame(_Frame.PING, _ACK, 0, payload))
        elif kind == _Frame.GOAWAY:
            raise EtcdGone(payload[8:].decode(errors="replace"))
