"""Serves HTTP to the other nodes, on connections that the log's transport accepted.

They come on the log's port, over mutual TLS, from members only. So this server listens nowhere: the
transport hands each connection over, and the peer's node id is the one in its certificate.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pickbox.http.server import Gateway, Listener, Server
from pickbox.tls import identity_in
from pickbox.waker import Waker

if TYPE_CHECKING:
    import socket
    import ssl
    from wsgiref.types import WSGIApplication

PEER: Final = "pickbox.peer"
"""Key of the WSGI environment: the id of the node that asks."""

_THREADS: Final = 16
_TIMEOUT: Final = 30
_MOST_WAITING: Final = 256


class _Accepted:
    """Stands in for a listening socket: what is ready to be accepted was handed over."""

    def __init__(self) -> None:
        self._waiting: deque[ssl.SSLSocket] = deque()
        self._waker = Waker()

    def put(self, sock: ssl.SSLSocket) -> None:
        """Have `sock` accepted; one too many is closed, and the peer tries again."""
        if self._waker.closed or len(self._waiting) >= _MOST_WAITING:
            sock.close()
            return
        self._waiting.append(sock)
        self.wake()

    def wake(self) -> None:
        """Have the accepting loop turn."""
        self._waker.wake()

    def fileno(self) -> int:
        return self._waker.fileno()

    def accept(self) -> tuple[socket.socket, None]:
        """The next connection; `TimeoutError` if there is none."""
        if not self._waiting:
            self._waker.clear()
            if not self._waiting:
                raise TimeoutError
            self._waker.wake()  # there may be more than one
        return self._waiting.popleft(), None

    def settimeout(self, _: float) -> None: ...

    def listen(self, _: int) -> None: ...

    def close(self) -> None:
        self._waker.close()
        while self._waiting:
            self._waiting.popleft().close()


class _Gateway(Gateway):
    """Tells the application who asks."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()
        identity = identity_in(self.req.conn.socket.getpeercert())
        environ[PEER] = "" if identity is None else identity.node_id
        return environ


class PeerServer(Server):
    """HTTP without a port of its own."""

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__("peers", Listener("peers", "port", 0, app, _THREADS, _TIMEOUT))
        self.gateway = _Gateway
        self.bind_addr = self.name  # cheroot takes a name for a Unix socket, and asks for no port
        self._accepted = _Accepted()

    def hand_over(self, sock: ssl.SSLSocket, node_id: str, address: str) -> None:
        """Serve a member's connection. For the transport's thread; never blocks."""
        self._accepted.put(sock)

    def bind_unix_socket(self, bind_addr: str) -> None:
        """Where cheroot would bind a socket: there is none to bind."""
        self.socket = self._accepted

    def _stop_accepting(self) -> None:
        self._connections._stop_requested = True
        self._accepted.wake()
        self._connections.stop()
