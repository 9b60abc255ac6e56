"""Content as a response's body: exactly as long as its headers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_CHUNK: Final = 1 << 20


class Truncated(Exception):
    """Content ended before its size, after the headers were sent: the connection must break."""


def chunks(source: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes of `source`, and none that somebody appends to it meanwhile.

    Raises:
        Truncated: it has fewer.
    """
    while length:
        chunk = source.read(min(_CHUNK, length))
        if not chunk:
            raise Truncated(f"content lacks its last {length} bytes")
        length -= len(chunk)
        yield chunk
