"""A small server of files that does one thing wrong, to try the load generator on."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from load.workers import FILES, LINEARIZABLE

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Store:
    """The files, and the fault, which shows in one of `every` requests that can have it."""

    fault: str = ""
    every: int = 7
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    replaced: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    version: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    chances: int = 0
    shown: int = 0

    def shows(self, *faults: str) -> bool:
        """Whether it is time for the fault, if it is one of these."""
        if self.fault not in faults:
            return False
        self.chances += 1
        if self.chances % self.every:
            return False
        self.shown += 1
        return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store
    answered = False

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        body, path = self.rfile.read(int(self.headers["Content-Length"])), self._path()
        with self.store.lock:
            if self._fails() or self._refuses(path):
                return
            new = path not in self.store.files
            self.store.version += 1
            etag = f'"{self.store.version}"'
            if not self.store.shows("loses writes"):
                if not new:
                    self.store.replaced[path] = self.store.files[path]
                self.store.files[path] = (body, etag)
            self._answer(201 if new else 200, etag=etag)

    def do_DELETE(self) -> None:
        path = self._path()
        with self.store.lock:
            if self._fails() or self._refuses(path):
                return
            if path not in self.store.files:
                self._answer(404)
                return
            if not self.store.shows("loses deletes"):
                self.store.replaced[path] = self.store.files.pop(path)
            self._answer(204)

    def do_GET(self) -> None:
        path, store = self._path(), self.store
        with store.lock:
            if self._fails():
                return
            kept = {"reads what was replaced", "reads what was replaced, locally"}
            if path in store.replaced and self._applies() and store.shows(*kept):
                body, etag = store.replaced[path]
            elif path in store.files:
                body, etag = store.files[path]
            else:
                self._answer(404)
                return
            if store.shows("flips a bit"):
                body = body[:-1] + bytes([body[-1] ^ 1])
            elif store.shows("mixes up files"):
                body = next((body for name, (body, _) in store.files.items() if name != path), b"")
            elif store.shows("makes up content"):
                body = f"{path} 1000000 0\n".encode()
            self._answer(200, body, etag, cut=store.shows("cuts the answer off"))

    def _path(self) -> str:
        return self.path.removeprefix(FILES).partition("?")[0]

    def _applies(self) -> bool:
        """Whether a fault that is of one kind of read only may show in this one."""
        return self.store.fault.endswith("locally") != self.path.endswith(LINEARIZABLE)

    def _fails(self) -> bool:
        """Answer wrongly, or not at all, if that is the fault."""
        store = self.store
        if self.answered and store.shows("ends kept connections"):
            self.close_connection = True
        elif store.shows("answers 503"):
            self._answer(503, b"no leader")
        elif store.shows("answers 404"):
            self._answer(404)
        elif store.shows("ends connections"):
            self.wfile.write(b"HTTP/1.1 20")
            self.close_connection = True
        elif store.shows("is silent"):
            self.rfile.read(1)  # until the client gives up
            self.close_connection = True
        else:
            return False
        return True

    def _refuses(self, path: str) -> bool:
        present = self.store.files.get(path)
        wanted, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        refused = (wanted and (not present or present[1] != wanted)) or (none == "*" and present)
        if not refused or self.store.shows("ignores conditions"):
            return False
        self._answer(412)
        return True

    def _answer(self, status: int, body: bytes = b"", etag: str = "", *, cut: bool = False) -> None:
        self.answered = True
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + cut))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or cut


@contextlib.contextmanager
def serving(fault: str = "") -> Iterator[tuple[str, Store]]:
    """The address of a server with that fault, and its files."""
    store = Store(fault)
    handler = type("FaultyHandler", (Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
