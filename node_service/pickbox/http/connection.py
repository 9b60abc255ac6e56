"""HTTP/1.1 on cheroot, made strict where leniency lets requests be misread.

What differs from cheroot's own: ambiguous framing is refused (RFC 9112, section 6.3), bodies are
those of `pickbox.http.body`, every refusal is a problem document, a body that nobody read closes
the connection instead of being waited for, and large answers are not copied on their way out.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from cheroot.makefile import StreamReader
from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest

from pickbox.errors import PickboxError
from pickbox.http.body import Body, ChunkedBody, SizedBody
from pickbox.http.problems import MEDIA_TYPE, HttpsRequired, document, name_of_status
from pickbox.tls import alerted_cause, cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Taker = Callable[[socket.socket, bool], None]

log = logging.getLogger(__name__)

_SKIP_LIMIT: Final = 64 * 1024
"""Bytes of an unread body that are read and dropped to keep a connection; beyond, it is closed."""

_LINGER_SECONDS: Final = 2.0
"""How long a client that still sends is listened to, so that it can read why it was refused."""

_HANDSHAKE_SECONDS: Final = 5.0
"""How long a handshake may go on; a client that is silent in it is dropped as any that is."""

_HANDSHAKE: Final = b"\x16"
"""What a TLS record with a handshake begins with (RFC 8446, section 5.1)."""

_JOINED_BYTES: Final = 64 * 1024
"""Bytes of a body that are copied to leave in one piece with the headers."""

_ONCE: Final = frozenset({b"Content-Length", b"Host", b"Transfer-Encoding"})


class StrictHeaders(HeaderReader):
    """Reads the headers of one request and refuses what two readers could read differently.

    Attributes:
        expects_continue: whether the client waits for ``100 Continue``. The header is taken out,
            or cheroot would answer it at once.
    """

    def __init__(self) -> None:
        self.expects_continue = False

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        """Read up to the empty line.

        Raises:
            ValueError: the headers are malformed.
        """
        headers: dict[bytes, bytes] = {} if hdict is None else hdict
        super().__call__(_OnceOnly(rfile), headers)
        expect = headers.pop(b"Expect", b"").lower()
        self.expects_continue = expect == b"100-continue"
        length = headers.get(b"Content-Length")
        if length is not None and not (length.isdigit() and len(length) <= 18):
            raise ValueError("Content-Length is not a number.")
        if length is not None and b"Transfer-Encoding" in headers:
            raise ValueError("Content-Length and Transfer-Encoding exclude each other.")
        return headers

    def _allow_header(self, key_name: bytes) -> bool:
        """Drop names with an underscore: WSGI cannot tell them from those with a hyphen."""
        return b"_" not in key_name


class _OnceOnly:
    """Passes header lines on; refuses a second one of a header that frames the request."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._seen: set[bytes] = set()

    def readline(self) -> bytes:
        line: bytes = self._source.readline()
        raw_name, colon, _ = line.partition(b":")
        name = raw_name.strip().title()
        if colon and line[:1] not in {b" ", b"\t"}:
            if raw_name != raw_name.strip():
                raise ValueError("There is white space around a header's name.")
            if name in _ONCE and name in self._seen:
                raise ValueError(f"{name.decode('latin-1')} was sent twice.")
            self._seen.add(name)
        elif line not in {b"", b"\r\n"}:
            raise ValueError("A header line has no name.")
        return line


class Request(HTTPRequest):
    """One request and its response."""

    rfile: Any

    def __init__(self, server: Any, conn: Any, *args: Any, **options: Any) -> None:
        super().__init__(server, conn, *args, **options)
        self.header_reader = StrictHeaders()
        if isinstance(conn.socket, ssl.SSLSocket):
            self.scheme = b"https"

    def read_request_line(self) -> bool:
        """Read the first line; answer 400 and return False when it makes no sense."""
        try:
            read: bool = super().read_request_line()  # type: ignore[no-untyped-call]
        except ValueError:  # what looks like an address, and like none: "//["
            self.simple_response("400 Bad Request", "The address of the request is malformed.")
            return False
        return read

    def read_request_headers(self) -> bool:
        """Read the headers; answer 400 and return False when they cannot be trusted."""
        read: bool = super().read_request_headers()  # type: ignore[no-untyped-call]
        if not read:
            return False
        if self.request_protocol == b"HTTP/1.1" and b"Host" not in self.inheaders:
            self.simple_response("400 Bad Request", "The Host header is missing.")
            return False
        if b"Transfer-Encoding" in self.inheaders and not self.chunked_read:
            # HTTP/1.0 has no such header; without it the body would be read as empty.
            self.simple_response("400 Bad Request", "The body has no length that is understood.")
            return False
        return True

    def respond(self) -> None:
        """Have the application answer."""
        send = self._send_continue if self.header_reader.expects_continue else None
        if self.chunked_read:
            self.rfile = ChunkedBody(self.conn.rfile, send)
        else:
            length = int(self.inheaders.get(b"Content-Length", 0))
            self.rfile = SizedBody(self.conn.rfile, length, send)
        self.server.gateway(self).respond()
        self.ensure_headers_sent()
        if self.conn.taker is not None:
            self.conn.wfile.flush()
            self.conn.taken, self.conn.chunked = True, self.chunked_write
            self.close_connection = True  # as far as cheroot is concerned
            return
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")
        self.conn.wfile.flush()

    def send_headers(self) -> None:
        """Send the response's headers; whatever of the body nobody read is dealt with first."""
        if not _skip_rest(self.rfile):
            self.close_connection = True
            self.conn.unread = True
        with self.conn.wfile.held():
            super().send_headers()

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer what never reaches an application, and close the connection."""
        detail = msg or "The request could not be handled."
        self.close_connection = True
        self.conn.unread = True
        with contextlib.suppress(OSError):
            self.conn.wfile.write(_refusal(status, name_of_status(int(str(status)[:3])), detail))

    def _send_continue(self) -> None:
        self.conn.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class Connection(HTTPConnection):
    """A client's connection.

    Attributes:
        unread: the client may still be sending something that nobody will read.
        has_sent: whether a first byte has come: until then it occupies no worker thread.
        taker: an application may set it in place of a body: it gets the socket once the headers
            are out, and whether to send chunks; the worker thread is free then.
        taken: the headers are out, and the socket is the taker's.
    """

    RequestHandlerClass = Request

    def __init__(self, server: Any, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(server, sock, *args, **options)
        self.wfile = _SocketWriter(sock)
        self.unread = False
        self.has_sent = False
        self.taker: Taker | None = None
        self.taken = self.chunked = False
        self._plain = server.tls is not None
        self._secure_by = 0.0

    def communicate(self) -> bool:
        """Answer what was sent. Of a listener that speaks TLS, the first is the handshake.

        While that waits for the client, and then for the first request, it occupies no thread.
        """
        if self._plain:
            return self._secure()
        more: bool = super().communicate()  # type: ignore[no-untyped-call]
        return more

    def _secure(self) -> bool:
        """Take the handshake as far as the client has come with it; False if it is over."""
        patience = self.socket.gettimeout()
        try:
            self.socket.settimeout(0)
            if not isinstance(self.socket, ssl.SSLSocket):
                first = self.socket.recv(1, socket.MSG_PEEK)
                if first != _HANDSHAKE:
                    self._refuse_plain(first)
                    return False
                self._secure_by = time.monotonic() + _HANDSHAKE_SECONDS
                self.socket = self.server.tls().wrap_socket(
                    self.socket, server_side=True, do_handshake_on_connect=False
                )
            self._shake_hands()
            self.socket.settimeout(patience)
        except OSError as error:  # an SSLError is one
            cause = alerted_cause(error) or cause_of(error)
            fields = {"listener": self.server.name, "client": self.remote_addr, "cause": cause}
            log.info("tls_handshake_failed", extra={"fields": fields})
            return False
        return True

    def _shake_hands(self) -> None:
        """Do what can be done now.

        Raises:
            OSError: the handshake fails, or takes too long.
        """
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            if time.monotonic() > self._secure_by:
                raise TimeoutError from None
            return
        self.rfile = _SecureReader(self.socket)
        self.wfile = _SocketWriter(self.socket)
        self._plain = False

    def _refuse_plain(self, first: bytes) -> None:
        if first:
            refusal = HttpsRequired("This port speaks HTTPS only: begin the address with https://.")
            self.unread = True
            self.wfile.write(_refusal("400 Bad Request", refusal.type, refusal.detail))

    def close(self) -> None:
        """Close. A client that still sends gets to read its answer first (no reset).

        Never fails: what is raised here ends the worker thread, for which cheroot stops the server.
        """
        if self.taken and self.taker is not None:
            self._hand_over(self.taker)
            return
        if self.unread:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                for _ in _received(self.socket, _LINGER_SECONDS):
                    pass
        try:
            super().close()
        except OSError:  # a client that resets before its handshake leaves no socket to shut down
            self.socket.close()

    def _hand_over(self, taker: Taker) -> None:
        try:
            self.rfile.close()
            taker(self.socket, self.chunked)
        except Exception as error:  # whatever it was, the listener goes on
            log.exception("connection_not_taken", extra={"fields": {"why": str(error)}})
            self.socket.close()


class _SecureReader(StreamReader):
    """Reads what TLS has decrypted. What it still holds, no selector would tell of."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock, "r")
        self._secure_socket = sock

    def has_data(self) -> bool:
        """Whether there is something to read already."""
        buffered: bool = super().has_data()  # type: ignore[no-untyped-call]
        return buffered or self._secure_socket.pending() > 0


class _SocketWriter:
    """Writes straight to the socket. The socket's timeout bounds each silence, not the whole.

    Headers are held until the first bytes of the body go with them: a node that dies in between
    would leave a balancer with headers, after which it can ask no other node.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._held = b""
        self._holding = False
        self.bytes_written = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is written in this context leaves with what comes next, or by `flush`."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def write(self, data: bytes) -> int:
        self.bytes_written += len(data)
        if self._holding:
            self._held += data
            return len(data)
        view = memoryview(data)
        if self._held:
            joined, self._held = self._held + bytes(view[:_JOINED_BYTES]), b""
            self._send(memoryview(joined))
            view = view[_JOINED_BYTES:]
        self._send(view)
        return len(data)

    def flush(self) -> None:
        """Send what is held."""
        held, self._held = self._held, b""
        self._send(memoryview(held))

    def _send(self, view: memoryview) -> None:
        while view:
            view = view[self._socket.send(view) :]


def _refusal(status: str, name: str, detail: str) -> bytes:
    """An answer for what never reaches an application."""
    content = json.dumps(document(name, int(str(status)[:3]), detail)).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + content


def _skip_rest(body: Any) -> bool:
    """Read what is left of a small body; whether the connection can take another request."""
    if not isinstance(body, Body):
        return False
    if body.finished:
        return True
    if body.awaited or not isinstance(body, SizedBody) or body.left > _SKIP_LIMIT:
        return False
    try:
        body.read(body.left)
    except PickboxError:
        return False
    return body.finished


def _received(sock: socket.socket, seconds: float) -> Iterator[int]:
    """Counts of bytes that still arrive, until the other side closes or `seconds` are over."""
    deadline = time.monotonic() + seconds
    buffer = bytearray(io.DEFAULT_BUFFER_SIZE * 8)
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        count = sock.recv_into(buffer)
        if count == 0:
            return
        yield count
