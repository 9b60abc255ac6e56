"""`Link`: an authenticated connection to a peer.

The tick thread reads from the socket and writes to it itself, so a message goes without a task
switch. What the socket does not take is queued and written in large pieces by the transport's
thread, which also pings. One lock keeps the two out of the same TLS session at once.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pickbox.consensus.transport.frames import MAX_FRAME, FrameError, FrameReader, Kind, encode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MAX_QUEUED: Final = 64 << 20
"""Bytes that may wait to be sent to one peer; more, and its connection is dropped."""

_RECORD: Final = 16 << 10
"""Longest content of a TLS record, in bytes: a read takes one record at most."""

_READS_A_TURN: Final = 64
_WRITE: Final = 256 << 10
_PING: Final = encode(Kind.PING)


@dataclass(slots=True)
class Traffic:
    """What went over the links to one peer, and how often there was a new one."""

    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    reconnects: int = 0


class Link:
    """Made and run on the transport's thread; `send`, `watch` and `receive` are the tick thread's.

    Args:
        on_closed: called once, with the cause; never from within `send` or `receive`.
        dialed: whether this node made the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: ssl.SSLSocket,
        reader: FrameReader,
        peer: str,
        *,
        dialed: bool,
        traffic: Traffic,
        on_closed: Callable[[Link, str], None],
    ) -> None:
        self.peer = peer
        self.dialed = dialed
        self.descriptor = sock.fileno()
        self.closed = False
        self.heard = self._spoke = self.since = time.monotonic()
        self._loop = loop
        self._socket = sock
        self._reader = reader
        self._traffic = traffic
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._piece = memoryview(b"")
        self._blocked = False
        reader.limit = MAX_FRAME

    # -- writing ----------------------------------------------------------------------------

    def send(self, frame: bytes) -> bool:
        """Write `frame`, or queue it; False if the connection is closed, or is closed now."""
        with self._lock:
            if self.closed:
                return False
            if self._queued + len(frame) > MAX_QUEUED:
                cause = "queue_full"
            else:
                self._queue.append(frame)
                self._queued += len(frame)
                self._spoke = time.monotonic()
                self._traffic.frames_sent += 1
                self._traffic.bytes_sent += len(frame)
                cause = "" if self._blocked else self._write()
            self.closed = bool(cause)
        if cause:
            self._soon(lambda: self._finish(cause))
        return not cause

    def _write(self) -> str:
        """Write until all is gone or the socket is full; returns why the connection is over."""
        while self._queued:
            if not self._piece:
                self._piece = self._next_piece()
            try:
                count = self._socket.send(self._piece)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._blocked = True
                self._soon(self._watch_writable)
                return ""
            except OSError:
                return "write_failed"
            self._piece = self._piece[count:]
            self._queued -= count
        self._blocked = False
        return ""

    def _next_piece(self) -> memoryview:
        """Many small frames in one TLS record and system call, or one large frame as it is."""
        parts = [self._queue.popleft()]
        size = len(parts[0])
        while self._queue and size + len(self._queue[0]) <= _WRITE:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def _watch_writable(self) -> None:
        if not self.closed:
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        with self._lock:
            if self.closed:
                return
            self._blocked = False
            cause = self._write()
            blocked = self._blocked
        if cause:
            self.close(cause)
        elif not blocked:
            self._loop.remove_writer(self._socket.fileno())

    # -- reading ----------------------------------------------------------------------------

    def watch(self, readable: select.epoll) -> bool:
        """Have `readable` tell when there is something to receive; False if the link is closed.

        Until the lock is let go, the descriptor is surely this link's: the next one may get it.
        """
        with self._lock:
            if not self.closed:
                readable.register(self.descriptor, select.EPOLLIN)
            return not self.closed

    def receive(self) -> list[bytes]:
        """The bodies of the messages that have come, in order; the link ends if it is over.

        It reads about a mebibyte at most. The descriptor stays readable while there is more.
        """
        bodies: list[bytes] = []
        try:
            cause = self._read(bodies)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            cause = ""
        except FrameError:
            cause = "bad_frame"
        except OSError:
            cause = "read_failed"
        if cause:
            self.end(cause)
        return bodies

    def _read(self, bodies: list[bytes]) -> str:
        """Read until there is no more, or enough; returns why the connection is over."""
        cause = self._take_frames(bodies)  # what came together with the handshake
        for _ in range(_READS_A_TURN):
            if cause:
                break
            with self._lock:
                if self.closed:
                    break
                data = self._socket.recv(_RECORD)
            if not data:
                return "closed_by_peer"
            self.heard = time.monotonic()
            self._traffic.bytes_received += len(data)
            self._reader.feed(data)
            cause = self._take_frames(bodies)
            if len(data) < _RECORD:
                break
        return cause

    def _take_frames(self, bodies: list[bytes]) -> str:
        while (frame := self._reader.next()) is not None:
            kind, body = frame
            self._traffic.frames_received += 1
            if kind is Kind.MESSAGE:
                bodies.append(body)
            elif kind is Kind.BYE:
                return "closed_by_peer"
            elif kind is not Kind.PING:
                return "bad_frame"
        return ""

    @property
    def _has_unread(self) -> bool:
        """Whether the peer has said something that the tick thread has not come to yet."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    # -- life -------------------------------------------------------------------------------

    def beat(self, now: float, ping_seconds: float, silence_seconds: float) -> None:
        """Ping if nothing was said for a while; close if nothing was heard for longer."""
        if now - self.heard > silence_seconds and not self._has_unread:
            self.close("silent")
        elif now - self._spoke >= ping_seconds and not self._queued:
            self.send(_PING)

    def close(self, cause: str) -> None:
        """Close the connection. For the transport's thread."""
        if self._begin_to_close():
            self._finish(cause)

    def end(self, cause: str) -> None:
        """Have the connection closed soon. For the tick thread."""
        if self._begin_to_close():
            self._soon(lambda: self._finish(cause))

    def _begin_to_close(self) -> bool:
        with self._lock:
            begins, self.closed = not self.closed, True
        return begins

    def _finish(self, cause: str) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_writer(self._socket.fileno())
        with self._lock:
            self._socket.close()
            self._queue.clear()
            self._queued = 0
        self._on_closed(self, cause)

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and every socket with it
            self._loop.call_soon_threadsafe(call)
