"""A proxy between browser and nodes that does what none should: it keeps the event stream."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster import Node

_OF_A_CONNECTION = {"connection", "content-length", "transfer-encoding", "date", "server"}


@contextmanager
def keeping_the_stream(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes behind a proxy, as one node: each request goes to the next of them.

    Of the event stream come the headers and nothing else, as from a proxy that fills a buffer.
    """
    turns, ended = itertools.cycle(nodes), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/api/events/stream":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                ended.wait()
                return
            answer = next(turns).request("GET", self.path)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _OF_A_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data)))
            with contextlib.suppress(ConnectionError):  # the page was closed meanwhile
                self.end_headers()
                self.wfile.write(answer.data)

        def log_request(self, *args: object) -> None:
            """Say nothing."""

    (port,) = free_ports(1)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = copy.copy(nodes[0])
    seen.ports = (*nodes[0].ports[:3], port)
    try:
        yield seen
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
