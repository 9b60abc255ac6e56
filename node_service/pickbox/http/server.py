"""The listeners of a node: client, admin and monitoring, each a cheroot server, and the peers'.

cheroot starts a worker thread on a connection as soon as it is accepted; here a connection waits,
without a thread, for its first byte, so that idle connections starve nobody.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cheroot import wsgi
from cheroot.workers.threadpool import ThreadPool, WorkerThread
from cheroot.wsgi import Gateway_10

from pickbox.http.connection import Connection
from pickbox.ports import cannot_listen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from wsgiref.types import WSGIApplication

    from pickbox.settings import Settings

log = logging.getLogger(__name__)
_cheroot_log = logging.getLogger("cheroot")

_MAX_HEADER_BYTES: Final = 64 * 1024
_KEPT_CONNECTIONS: Final = 1024
_BACKLOG: Final = 256


class ListenError(Exception):
    """A listener cannot be opened; the text names the setting, the port and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a listener is. `timeout`: seconds of silence after which a client is dropped.

    Attributes:
        setting: the field of `Settings` that its port comes from.
        tls: gives what each new connection is encrypted with; None for plain HTTP.
    """

    name: str
    setting: str
    port: int
    app: WSGIApplication
    threads: int
    timeout: int
    tls: Callable[[], ssl.SSLContext] | None = None


class Listeners:
    """Opens, serves and closes the three listeners, and `between_nodes`, which has no port."""

    def __init__(
        self,
        settings: Settings,
        client_app: WSGIApplication,
        admin_app: WSGIApplication,
        monitor_app: WSGIApplication,
        between_nodes: Sequence[Server] = (),
        admin_tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._host = settings.host
        self._listeners = (
            Listener("monitor", "monitor_port", settings.monitor_port, monitor_app, 4, 10),
            Listener("admin", "admin_port", settings.admin_port, admin_app, 16, 30, admin_tls),
            Listener("client", "dashboard_port", settings.dashboard_port, client_app, 32, 30),
        )
        self._between_nodes = between_nodes
        self._servers: list[Server] = []

    def start(self) -> None:
        """Open all three, then serve them in threads.

        Raises:
            ListenError: a port cannot be had; none is open then.
        """
        for listener in self._listeners:
            server = Server(self._host, listener)
            try:
                server.prepare()
            except OSError as error:
                self.stop(0)
                problem = cannot_listen(listener.setting, self._host, listener.port, error)
                raise ListenError(problem) from error
            self._servers.append(server)
        for server in self._between_nodes:
            server.prepare()
            self._servers.append(server)
        for server in self._servers:
            server.serve_in_thread()
        ports = {listener.name: listener.port for listener in self._listeners}
        log.info("listening", extra={"fields": {"host": self._host, **ports}})

    def stop(self, timeout: float) -> None:
        """Take no more requests, and give those in flight `timeout` seconds to finish.

        The client and admin listeners close first. The monitoring one, so that probes see a node
        that is not ready rather than none, and that between nodes, by which others fetch what a
        client in flight has sent, close last.
        """
        deadline = time.monotonic() + timeout
        monitor, people, nodes = self._servers[:1], self._servers[1:3], self._servers[3:]
        for group in (people, monitor + nodes):
            stopping = [server.stop_in_thread(deadline) for server in group]
            for thread in stopping:
                # cheroot closes the sockets at the deadline and then waits for its threads as long
                # as they take: those are daemons, so the process need not.
                thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
        self._servers.clear()


CONNECTION: Final = "pickbox.connection"
"""The `Connection` of a request, in its WSGI environment."""


class Gateway(Gateway_10):
    """Calls the application, and lets it have the connection."""

    req: Any

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[CONNECTION] = self.req.conn
        return environ


class Server(wsgi.Server):
    """One listener."""

    _connections: Any

    ConnectionClass = Connection
    max_request_header_size = _MAX_HEADER_BYTES
    max_request_body_size = 0  # no limit here: bodies are streams, bounded by their routes
    keep_alive_conn_limit = _KEPT_CONNECTIONS
    # A server that tells its version tells which holes to try.
    version = "pickbox"

    def __init__(self, host: str, listener: Listener) -> None:
        super().__init__(
            (host, listener.port),
            listener.app,
            server_name="pickbox",
            request_queue_size=_BACKLOG,
            timeout=listener.timeout,
        )
        self.gateway = Gateway
        self.name = listener.name
        self.tls = listener.tls
        self.requests = _Workers(self, min=listener.threads, max=listener.threads)

    def serve_in_thread(self) -> None:
        threading.Thread(target=self.serve, name=f"{self.name}-accept", daemon=True).start()

    def stop_in_thread(self, deadline: float) -> threading.Thread:
        thread = threading.Thread(
            target=self._stop_by, args=(deadline,), name=f"{self.name}-stop", daemon=True
        )
        thread.start()
        return thread

    def process_conn(self, conn: Connection) -> None:
        """Hand a connection to a worker once it has something to say."""
        if not conn.has_sent:
            conn.has_sent = True
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log what cheroot has to say, but not that a client is gone without TLS's farewell."""
        if not isinstance(sys.exc_info()[1], ssl.SSLError):
            _cheroot_log.log(level, "%s", msg, exc_info=traceback)

    def _stop_by(self, deadline: float) -> None:
        if not self.ready:
            self._close_unserved()
            return
        self._stop_accepting()
        self._take_what_has_arrived()
        self.shutdown_timeout = max(0.1, deadline - time.monotonic())
        self.stop()

    def _close_unserved(self) -> None:
        sock = getattr(self, "socket", None)
        if sock is not None:
            sock.close()

    def _stop_accepting(self) -> None:
        """End cheroot's accepting loop at once; it would notice half a second later."""
        self._connections._stop_requested = True
        with contextlib.suppress(OSError):
            socket.create_connection(self.bind_addr, timeout=1).close()
        self._connections.stop()

    def _take_what_has_arrived(self) -> None:
        """Serve the requests that reached the machine before the stop, too."""
        selector: Any = self._connections._selector
        for descriptor, conn in list(selector.select(timeout=0)):
            if conn is not self:
                selector.unregister(descriptor)
                self.requests.put(conn)


class _Workers(ThreadPool):
    """Worker threads that do not keep the process alive."""

    def _spawn_worker(self) -> WorkerThread:
        worker = WorkerThread(self.server)  # type: ignore[no-untyped-call]
        worker.name = f"{self.server.name}-{worker.name.rpartition('-')[2]}"
        worker.daemon = True
        worker.start()
        return worker
