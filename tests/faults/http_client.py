"""A client of the HTTP API: one operation at a time, at any node, each answer recorded."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import urllib3

from faults.content import Damaged, content_of, token_of
from faults.folder_clients import SIZES
from faults.history import Operation

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from cluster import Node

    from faults.history import Kind, Outcome
    from faults.record import Record

GROUPS: Final = 6
"""Of two paths each, written at any time."""
OPERATIONS_PER_GROUP: Final = 150
"""Then the next group takes its place; fewer than the search of the black-box check can take."""
_PATIENCE = 12.0
_TIMEOUT = urllib3.Timeout(connect=0.5, read=4.0)
_FILES = "/api/v1/files/"
_NOT_NOW = {500, 503, 504, 507}
"""Answers that say nothing of the file. For a 500 there has to be a reason in the node's log."""


class Paths:
    """The paths that are in use; a group that has had its operations makes room for a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses = [0] * GROUPS

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """A path, and the other one of its group."""
        number = rng.randrange(GROUPS)
        with self._lock:
            self._uses[number] += 1
            group = f"http/p{number}-{self._uses[number] // OPERATIONS_PER_GROUP}"
        one, other = rng.sample((f"{group}.a", f"{group}.b"), 2)
        return one, other


@dataclass(frozen=True, slots=True)
class _Request:
    """A write as it is sent, and what is expected of it."""

    kind: Kind
    path: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    token: str | None = None
    conditional: bool = False
    expected: str | None = None
    destination: str = ""
    expected_version: int = 0


class HttpClient:
    """Sends to whichever of `nodes`; a write without an answer is sent again under its key."""

    def __init__(
        self, number: int, nodes: Sequence[Node], paths: Paths, record: Record, rng: random.Random
    ) -> None:
        self._number = number
        self._nodes = nodes
        self._paths = paths
        self._record = record
        self._rng = rng
        self._count = 0
        self._known: dict[str, tuple[str, int]] = {}
        """Path -> content and version, as last seen there."""
        self._pool = urllib3.PoolManager(retries=False)

    def operate(self) -> None:
        """One operation, drawn."""
        (path, other), drawn = self._paths.draw(self._rng), self._rng.random()
        if drawn < 0.5:
            self.get(path)
        elif drawn < 0.82:
            self._put(path)
        elif drawn < 0.92:
            self._delete(path)
        elif path in self._known:
            self._move(path, other)

    def get(self, path: str) -> bool:
        """A linearizable read; one that gets no answer is not recorded: it changes nothing."""
        called = time.monotonic()
        url = f"{_FILES}{path}?consistency=linearizable"
        answer = self._try(self._rng.choice(self._nodes), "GET", url)
        returned = time.monotonic()
        if answer is None or answer.status in _NOT_NOW:
            return False
        token, version = None, 0
        if answer.status == 200:
            version = int(answer.headers["X-Pickbox-Version"])
            try:
                token = token_of(answer.data)
            except Damaged as error:
                self._record.wrong.append(f"GET {path}, version {version}: {error}")
                return True
            self._known[path] = (token, version)
        elif answer.status != 404:
            self._record.wrong.append(f"GET {path}: {answer.status} {answer.data[:200]!r}")
            return True
        self._record.history.add(
            Operation(self._number, "get", path, token, called, returned, version=version)
        )
        return True

    # -- writes -----------------------------------------------------------------------------

    def _put(self, path: str) -> None:
        key, drawn = self._key(), self._rng.random()
        conditional, expected, headers = False, None, {"Idempotency-Key": key}
        version = 0
        if drawn < 0.1:
            conditional = True
            headers["If-None-Match"] = "*"
        elif drawn < 0.4 and path in self._known:
            conditional = True
            expected, version = self._expect(path, headers)
        self._record.issued.add(key)
        body = content_of(key, self._rng.choice(SIZES))
        self._write(
            _Request(
                "put",
                path,
                "PUT",
                _FILES + path,
                headers,
                body,
                key,
                conditional,
                expected,
                expected_version=version,
            )
        )

    def _delete(self, path: str) -> None:
        headers = {"Idempotency-Key": self._key()}
        conditional = path in self._known and self._rng.random() < 0.5
        expected, version = self._expect(path, headers) if conditional else (None, 0)
        self._write(
            _Request(
                "delete",
                path,
                "DELETE",
                _FILES + path,
                headers,
                b"",
                conditional=conditional,
                expected=expected,
                expected_version=version,
            )
        )

    def _move(self, path: str, destination: str) -> None:
        """Of what was last seen there: else nobody could say what was moved."""
        token, base = self._known[path]
        headers = {"Idempotency-Key": self._key(), "Content-Type": "application/json"}
        wanted = {"source": path, "destination": destination, "base": base}
        body = json.dumps(wanted).encode()
        self._write(
            _Request(
                "move",
                path,
                "POST",
                "/api/v1/move",
                headers,
                body,
                token,
                True,
                token,
                destination,
                base,
            )
        )

    def _key(self) -> str:
        self._count += 1
        return f"c{self._number}-{self._count}"

    def _expect(self, path: str, headers: dict[str, str]) -> tuple[str, int]:
        token, version = self._known[path]
        headers["If-Match"] = f'"{version}"'
        return token, version

    def _write(self, request: _Request) -> None:
        called = time.monotonic()
        outcome, document = self._decide(request)
        if outcome is None:
            return
        returned = math.inf if outcome == "unknown" else time.monotonic()
        version = document.get("version", 0)
        self._record.history.add(
            Operation(
                self._number,
                request.kind,
                request.path,
                request.token,
                called,
                returned,
                outcome,
                request.conditional,
                request.expected,
                document.get("index", 0),
                version,
                request.destination,
                request.expected_version,
            )
        )
        if outcome == "done" and request.token is not None:
            self._known[request.destination or request.path] = (request.token, version)

    def _decide(self, request: _Request) -> tuple[Outcome | None, dict[str, Any]]:
        """Try until there is an answer or no patience; None if certainly nothing happened."""
        deadline = time.monotonic() + _PATIENCE
        sent = False
        while time.monotonic() < deadline:
            node = self._rng.choice(self._nodes)
            body, headers = request.body, request.headers
            answer = self._try(node, request.method, request.url, body=body, headers=headers)
            if answer is None:
                sent = True
            elif answer.status in (200, 201):
                return "done", answer.json()
            elif answer.status == 412 or (answer.status == 404 and request.method == "DELETE"):
                return "refused", {}  # 404: a delete of nothing, as the log says
            elif answer.status == 404:  # there was nothing to move
                return ("unknown" if sent else None), {}
            elif answer.status in _NOT_NOW:
                sent = True
            else:
                told = f"{answer.status} {answer.data[:200]!r}"
                self._record.wrong.append(f"{request.method} {request.path}: {told}")
                return "unknown", {}
            time.sleep(0.05)
        return ("unknown" if sent else None), {}

    def _try(
        self, node: Node, method: str, url: str, **options: Any
    ) -> urllib3.BaseHTTPResponse | None:
        """The answer, or None if there was none: then nobody knows what became of the request."""
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
            return self._pool.request(method, node.client + url, timeout=_TIMEOUT, **options)
        return None
