"""Request bodies as streams: never more of one in memory than what a caller asks for.

cheroot's own reader holds a whole chunk of a chunked body in memory, however large its sender says
that it is, and takes a body that ends early for a complete one. These do neither, and send
``100 Continue`` only when somebody reads (RFC 9110, section 10.1.1), so that a request refused by
its headers never uploads anything.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

from pickbox.http.problems import BodyIncomplete, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_LINE: Final = 1024
_TRAILERS_LIMIT: Final = 16 * 1024
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r\n", re.DOTALL)


class Body(io.RawIOBase):
    """A request's body, read from a connection's buffered reader `source`.

    Attributes:
        finished: whether the last byte was read, so that the next request may follow.
    """

    def __init__(self, source: Any, send_continue: Callable[[], None] | None) -> None:
        super().__init__()
        self._source = source
        self._send_continue = send_continue
        self.finished = False

    @property
    def awaited(self) -> bool:
        """Whether the client still waits for ``100 Continue`` before it sends the body."""
        return self._send_continue is not None and not self.finished

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end.

        Raises:
            BodyIncomplete: the client closed the connection early, or broke the framing.
            RequestTimeout: nothing came for as long as the listener waits.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if self.finished or size == 0:
            return b""
        if self._send_continue is not None:
            send, self._send_continue = self._send_continue, None
            send()
        try:
            return self._read(size)
        except TimeoutError:
            raise RequestTimeout("The request's body stopped arriving.") from None
        except OSError:
            raise BodyIncomplete("The connection broke before the body was complete.") from None

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        raise NotImplementedError


class SizedBody(Body):
    """A body of ``Content-Length`` bytes."""

    def __init__(
        self, source: Any, length: int, send_continue: Callable[[], None] | None = None
    ) -> None:
        super().__init__(source, send_continue)
        self._length = length
        self.left = length
        self.finished = length == 0

    def _read(self, size: int) -> bytes:
        wanted = min(size, self.left)
        data: bytes = self._source.read(wanted)
        self.left -= len(data)
        self.finished = self.left == 0
        if len(data) < wanted:
            raise BodyIncomplete(
                f"The body ended after {self._length - self.left} of {self._length} bytes."
            )
        return data


class ChunkedBody(Body):
    """A body in chunked transfer coding (RFC 9112, section 7.1)."""

    def __init__(self, source: Any, send_continue: Callable[[], None] | None = None) -> None:
        super().__init__(source, send_continue)
        self._chunk_left = 0

    def _read(self, size: int) -> bytes:
        parts = []
        while size and not self.finished:
            if self._chunk_left == 0:
                self._next_chunk()
                continue
            data = self._source.read(min(size, self._chunk_left))
            if not data:
                raise BodyIncomplete("The connection closed within a chunk of the body.")
            parts.append(data)
            size -= len(data)
            self._chunk_left -= len(data)
            if self._chunk_left == 0 and self._source.read(2) != b"\r\n":
                raise BodyIncomplete("A chunk of the body is not followed by CRLF.")
        return b"".join(parts)

    def _next_chunk(self) -> None:
        match = _CHUNK_SIZE.fullmatch(self._source.readline(_CHUNK_LINE))
        if match is None:
            raise BodyIncomplete("The body ended early, or a chunk of it has no valid size.")
        self._chunk_left = int(match[1], 16)
        if self._chunk_left == 0:
            self._skip_trailers()
            self.finished = True

    def _skip_trailers(self) -> None:
        budget = _TRAILERS_LIMIT
        while True:
            line = self._source.readline(budget)
            if line == b"\r\n":
                return
            budget -= len(line)
            if not line.endswith(b"\r\n") or budget <= 0:
                raise BodyIncomplete("The trailers of the body are malformed or too long.")
