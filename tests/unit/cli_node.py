"""A node as the command line sees it: the documented HTTP API over an in-memory catalog.

It is a real HTTP server on a real socket, small enough to be told to misbehave: refuse, lose an
answer after the write was applied, cut a download short, send other bytes than it says.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from cli_catalog import Fault, Node, Seen, Stored
from cli_run import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refusal(Exception):
    """A problem document to answer with."""

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail = status, name, detail


class Handler(BaseHTTPRequestHandler):
    """One listener's requests; `node` and `routes` are set by `listener`."""

    protocol_version = "HTTP/1.1"
    node: Node
    admin = False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.node.clock_offset, usegmt=True)

    def handle_any(self) -> None:
        seen = Seen(self.command, self.path, dict(self.headers.items()))
        self.node.seen.append(seen)
        self.fault = self.node.fault(self.command) or Fault("", status=0)
        if self.fault.refuse_unread:
            self.close_connection = True
            self._problem(Refusal(self.fault.status, self.fault.type, self.fault.detail))
            return
        if self.fault.hang_up:
            self.close_connection = True
            return
        if self.fault.break_upload:
            self.rfile.read(1 << 20)
            self.close_connection = True
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen.size = len(self.body)
        try:
            self._refuse()
            self._route()
        except Refusal as refusal:
            self._problem(refusal)

    def _refuse(self) -> None:
        fault = self.fault
        later = fault.applied or fault.lose_answer or fault.other_bytes
        later = later or fault.cut_after is not None
        if fault.status and not later:
            raise Refusal(fault.status, fault.type, fault.detail)

    def _route(self) -> None:
        address = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(address.query).items()}
        if self.admin and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "unauthorized", "The admin API wants the admin token.")
        if address.path.startswith("/api/v1/files/"):
            path = unquote_to_bytes(address.path.removeprefix("/api/v1/files/"))
            if b".." in path.split(b"/"):
                raise Refusal(400, "invalid-path", "A path may not have '..' as a component.")
            getattr(self, f"_file_{self.command.lower()}")(path)
            return
        if self.command == "DELETE" and address.path.startswith("/api/v1/members/"):
            self._answer(self._let_go(address.path.removeprefix("/api/v1/members/")))
            return
        name = f"{self.command} {address.path}"
        simple = {
            "GET /api/cluster": self.node.cluster,
            "GET /api/health": self.node.health,
            "GET /live": lambda: {"live": True},
            "GET /health": self._health,
            "GET /ready": self._health,
            "GET /api/v1/files": self._list,
            "POST /api/v1/move": self._move,
            "GET /api/v1/status": self._status,
            "GET /api/v1/members": self._members,
            "POST /api/v1/leader": self._transfer,
            "POST /api/v1/drain": lambda: self._drain(True),
            "DELETE /api/v1/drain": lambda: self._drain(False),
            "GET /api/v1/upgrade": self._upgrade,
            "POST /api/v1/upgrade": self._finish,
            "POST /api/v1/backups": lambda: {"state": "running"},
            "GET /api/v1/backups/first": lambda: {"state": "ready", "directory": "/data/first"},
            "GET /api/v1/deletes": self._held,
            "POST /api/v1/deletes": self._release,
            "DELETE /api/v1/deletes": self._release,
        }
        if name not in simple:
            raise Refusal(404, "not-found", "Nothing is at this address.")
        self._answer(simple[name]())

    def _health(self) -> dict[str, Any]:
        health = self.node.health()
        if not health["ready"]:
            self._json(503, {"status": 503, "detail": "The node is not ready.", **health})
            raise ConnectionAbortedError
        return health

    def _status(self) -> dict[str, Any]:
        cluster = self.node.cluster()
        return {"node": cluster["nodes"][0], "health": self.node.health(), "cluster": cluster}

    def _members(self) -> dict[str, Any]:
        member = {"address": "127.0.0.1:8001", "role": "voter"}
        members = [{"node_id": name, **member} for name in self.node.members]
        return {"version": 1, "members": members}

    def _let_go(self, name: str) -> dict[str, Any]:
        if name not in self.node.members:
            raise Refusal(404, "not-found", f"{name} is not a member.")
        self.node.members.remove(name)
        if self.fault.applied:
            raise Refusal(self.fault.status, self.fault.type, self.fault.detail)
        return self._members()

    def _transfer(self) -> dict[str, Any]:
        target = json.loads(self.body)["target"]
        if target not in {None, "node1", "node2", "node3"}:
            raise Refusal(404, "not-found", f"No member is named {target}.")
        self.node.leader = target or "node2"
        return {"leader": self.node.leader}

    def _drain(self, draining: bool) -> dict[str, Any]:
        self.node.draining = draining
        return {"draining": draining}

    def _upgrade(self) -> dict[str, Any]:
        nodes = [
            {"node_id": node, "version": version, "understands": level, "error": ""}
            for node, version, level in zip(
                ("node1", "node2", "node3"), self.node.node_versions, self.node.levels, strict=True
            )
        ]
        level, target = self.node.level, max(self.node.levels)
        return {"level": level, "target": target, "nodes": nodes, "finished": level >= target}

    def _finish(self) -> dict[str, Any]:
        if len(set(self.node.levels)) > 1:
            raise Refusal(409, "upgrade-refused", "node3 runs release 0.1.0: upgrade it.")
        self.node.level = max(self.node.levels)
        return self._upgrade()

    def _held(self) -> dict[str, Any]:
        return {"count": self.node.held, "known": 10, "examples": ["a", "b"][: self.node.held]}

    def _release(self) -> dict[str, Any]:
        count, self.node.held = self.node.held, 0
        return {"count": count}

    def _list(self) -> dict[str, Any]:
        query = parse_qs(urlsplit(self.path).query, encoding="latin-1")
        prefix = query.get("prefix", [""])[0].encode("latin-1")
        after = base64.b64decode(query.get("cursor", [""])[0])
        limit = min(int(query["limit"][0]), self.node.page_limit)
        found = sorted(p for p in self.node.entries if p.startswith(prefix) and p > after)
        page = found[:limit]
        more = len(found) > limit
        return {
            "entries": [self._entry(path) for path in page],
            "cursor": base64.b64encode(page[-1]).decode() if more else None,
        }

    def _entry(self, path: bytes) -> dict[str, Any]:
        stored = self.node.entries[path]
        return {
            **_path(path),
            "kind": stored.kind,
            "size": len(stored.content),
            "mode": f"{stored.mode:04o}",
            "mtime_ns": stored.mtime_ns,
            "digest": stored.digest,
            "version": stored.version,
            "target": stored.target,
        }

    def _move(self) -> dict[str, Any]:
        wanted = json.loads(self.body)
        if len(wanted) != 2:
            raise Refusal(400, "bad-request", "Give either source or source_b64.")
        source, destination = (
            base64.b64decode(wanted[f"{n}_b64"]) if f"{n}_b64" in wanted else wanted[n].encode()
            for n in ("source", "destination")
        )
        if self.headers["Idempotency-Key"] not in self.node.receipts:
            if source not in self.node.entries:
                raise Refusal(404, "not-found", "Nothing is there to move.")
            if destination in self.node.entries:
                raise Refusal(409, "path-taken", "Something is at the destination.")
        return self._once(lambda: self._renamed(source, destination))

    def _renamed(self, source: bytes, destination: bytes) -> dict[str, Any]:
        stored = self.node.entries.pop(source)
        self.node.store(destination, stored.content)
        return {**_path(destination), "version": self.node.version}

    def _once(self, action: Any) -> dict[str, Any]:
        """Apply under the request's key, as the node does: a retry gets the first answer."""
        key = self.headers["Idempotency-Key"]
        with self.node.lock:
            if key not in self.node.receipts:
                self.node.receipts[key] = {**action(), "request_id": key}
                self.node.applied += 1
        answer: dict[str, Any] = self.node.receipts[key]
        if self.fault.lose_answer:
            self.close_connection = True
            self.connection.close()
            raise ConnectionAbortedError
        return answer

    def _file_get(self, path: bytes) -> None:
        stored = self._existing(path)
        if stored.kind != "file":
            raise Refusal(409, "not-a-file", "This is a directory.")
        start = self._range_start(stored)
        content = stored.content[start:]
        sent = b"?" + content[1:] if self.fault.other_bytes else content
        self.send_response(206 if start else 200)
        self._describe(stored)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.fault.cut_after is not None:
            self.wfile.write(sent[: self.fault.cut_after])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(sent)

    def _range_start(self, stored: Stored) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") == f'"{stored.version}"'
        return int(asked[1]) if asked and same else 0

    def _file_head(self, path: bytes) -> None:
        stored = self._existing(path)
        self.send_response(200)
        self._describe(stored)
        self.send_header("Content-Length", str(len(stored.content)))
        self.end_headers()

    def _describe(self, stored: Stored) -> None:
        self.send_header("ETag", f'"{stored.version}"')
        self.send_header("X-Pickbox-Digest", stored.digest)
        self.send_header("X-Pickbox-Mode", f"{stored.mode:04o}")
        self.send_header("X-Pickbox-Mtime", str(stored.mtime_ns))

    def _file_put(self, path: bytes) -> None:
        key = self.headers["Idempotency-Key"]
        if key not in self.node.receipts:
            self._check_conditions(path)
        self._answer(self._once(lambda: self._put(path)))

    def _put(self, path: bytes) -> dict[str, Any]:
        if self.query.get("kind") == "directory" and "X-Pickbox-Mtime" in self.headers:
            raise Refusal(400, "bad-request", "The times of directories are not kept.")
        stored = self.node.store(
            path,
            self.body + (b"?" if self.fault.other_bytes else b""),
            kind=self.query.get("kind", "file"),
            mode=int(self.headers.get("X-Pickbox-Mode", "0644"), 8),
            mtime_ns=int(self.headers.get("X-Pickbox-Mtime", "0")),
        )
        return {
            **_path(path),
            "version": stored.version,
            "digest": stored.digest,
            "index": stored.version,
        }

    def _file_delete(self, path: bytes) -> None:
        if self.headers["Idempotency-Key"] not in self.node.receipts:
            self._existing(path)
            self._check_conditions(path)
        below = [p for p in self.node.entries if p.startswith(path + b"/")]
        if below and self.query.get("recursive") != "true":
            raise Refusal(409, "directory-not-empty", "The directory still has entries.")
        self._answer(self._once(lambda: self._removed([path, *below])))

    def _removed(self, paths: list[bytes]) -> dict[str, Any]:
        for path in paths:
            del self.node.entries[path]
        return {**_path(paths[0]), "version": 0}

    def _check_conditions(self, path: bytes) -> None:
        there = self.node.entries.get(path)
        match = self.headers.get("If-Match")
        stale = match and (there is None or match != f'"{there.version}"')
        if stale or (self.headers.get("If-None-Match") == "*" and there):
            raise Refusal(412, "precondition-failed", "Another version is there.")

    def _existing(self, path: bytes) -> Stored:
        if path not in self.node.entries:
            raise Refusal(404, "not-found", f"Nothing is at {path!r}.")
        return self.node.entries[path]

    def _answer(self, document: Any) -> None:
        self._json(200, document)

    def _problem(self, refusal: Refusal) -> None:
        kind = f"urn:pickbox:problem:{refusal.name}"
        document = {"type": kind, "status": refusal.status, "detail": refusal.detail}
        self._json(refusal.status, document, "application/problem+json")

    def _json(self, status: int, document: Any, media_type: str = "application/json") -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            super().handle_one_request()
            return
        self.close_connection = True


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(Handler, f"do_{_method}", Handler.handle_any)


def _path(path: bytes) -> dict[str, str]:
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        text = path.decode(errors="backslashreplace")
        return {"path": text, "path_b64": base64.b64encode(path).decode()}


class Server(ThreadingHTTPServer):
    """Threads that end with the test; addresses that need no name lookup."""

    daemon_threads = True

    def server_bind(self) -> None:
        self.allow_reuse_address = True
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


@contextlib.contextmanager
def running_node() -> Iterator[Node]:
    """A node with its client, admin and monitoring listeners."""
    node = Node()
    with contextlib.ExitStack() as stack:
        urls = []
        for admin in (False, True, False):
            handler = type("BoundHandler", (Handler,), {"node": node, "admin": admin})
            server = stack.enter_context(Server(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_port}")
        node.url, node.admin_url, node.monitor_url = urls
        yield node
