"""Those who write and those who read, each with a connection of its own."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from load.client import NoAnswer, Reply
from load.content import Damaged, content_of, sequence_of
from load.ledger import NEVER
from load.record import Answer

if TYPE_CHECKING:
    import random
    import threading

    from load.client import Client
    from load.ledger import Ledger
    from load.record import Record

FILES: Final = "/api/v1/files/"
LINEARIZABLE: Final = "?consistency=linearizable"
SIZES: Final = (80, 1_000, 1_000, 10_000, 100_000)
"""The largest is not sent inside the log."""
_DONE: Final = {200, 201, 204}
_NOT_FOUND: Final = 404
_REFUSED: Final = 412
_SERVER_ERRORS: Final = 500


class Worker:
    """What writers and readers share: connection, ledger, record."""

    def __init__(self, client: Client, ledger: Ledger, record: Record, rng: random.Random) -> None:
        self._client = client
        self._ledger = ledger
        self._record = record
        self._rng = rng

    def run(self, stop: threading.Event, interval: float) -> None:
        """Act once an interval; what could not be done in time is not made up for."""
        due = time.monotonic() + self._rng.random() * interval
        while not stop.wait(max(0.0, due - time.monotonic())):
            self.act()
            due = max(due + interval, time.monotonic())
        self._client.close()

    def act(self) -> None:
        raise NotImplementedError

    def _request(
        self,
        operation: str,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Reply | None, Answer]:
        """The reply, and what is to be recorded of it once it is judged."""
        at, began, reply, error = time.time(), time.monotonic(), None, ""
        try:
            reply = self._client.send(method, FILES + target, body, headers or {})
        except NoAnswer as failure:
            error = str(failure)
        return reply, Answer(
            at=at,
            began=began,
            seconds=time.monotonic() - began,
            operation=operation,
            method=method,
            path=target,
            status=reply.status if reply else 0,
            error=error,
            resent=reply.resent if reply else False,
        )


@dataclass
class _Versions:
    """What a writer knows of the versions of one path, by their ETags."""

    present: str = ""
    older: str = ""


class Writer(Worker):
    """Puts and deletes at paths that nobody else writes to."""

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        record: Record,
        rng: random.Random,
        paths: list[str],
    ) -> None:
        super().__init__(client, ledger, record, rng)
        self._paths = paths
        self._versions = {path: _Versions() for path in paths}

    def act(self) -> None:
        """One write, drawn from those that make sense for what is at a path now."""
        path = self._rng.choice(self._paths)
        entry, versions, drawn = self._ledger.entry(path), self._versions[path], self._rng.random()
        if entry.unclear:
            self._put("put", path)
        elif entry.size is None:
            new = {"If-None-Match": "*"} if drawn < 0.3 else {}
            self._put("put-if-none" if new else "put", path, new)
        elif drawn < 0.15:
            self._write("delete", "DELETE", path)
        elif drawn < 0.2:
            self._write("delete-if-match", "DELETE", path, {"If-Match": versions.present})
        elif drawn < 0.25 and versions.older:
            self._put("put-if-outdated", path, {"If-Match": versions.older}, expected={_REFUSED})
        elif drawn < 0.5:
            self._put("put-if-match", path, {"If-Match": versions.present})
        else:
            self._put("put", path)

    def _put(
        self,
        operation: str,
        path: str,
        headers: dict[str, str] | None = None,
        expected: set[int] = _DONE,
    ) -> None:
        self._write(operation, "PUT", path, headers, self._rng.choice(SIZES), expected)

    def _write(
        self,
        operation: str,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        size: int | None = None,
        expected: set[int] = _DONE,
    ) -> None:
        number = self._ledger.begin(path, size)
        body = None if size is None else content_of(path, number, size)
        sent = {"Idempotency-Key": uuid.uuid4().hex, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/octet-stream"
        reply, answer = self._request(operation, method, path, body, sent)
        if reply and reply.status not in expected:
            answer = replace(answer, error=_problem(reply, expected))
        self._note(path, number, reply)
        self._record.add(answer)

    def _note(self, path: str, number: int, reply: Reply | None) -> None:
        """Take down what became of a write."""
        versions = self._versions[path]
        if reply and reply.status in _DONE:
            self._ledger.acknowledge(path, number)
            self._versions[path] = _Versions(reply.headers.get("etag", ""), versions.present)
        elif reply and reply.status < _SERVER_ERRORS:
            self._ledger.refuse(path, number)
        else:
            self._ledger.lose(path, number)


class Reader(Worker):
    """Reads anywhere, and knows what may be found there."""

    def act(self) -> None:
        self.read(self._rng.choice(self._ledger.paths), stale=self._rng.random() < 0.5)

    def read(self, path: str, *, stale: bool, operation: str = "") -> bool:
        """One read, which may be `stale` or not; whether it found what it should."""
        lowest = NEVER if stale else self._ledger.acknowledged(path)
        operation = operation or ("get-local" if stale else "get-linearizable")
        reply, answer = self._request(operation, "GET", path + ("" if stale else LINEARIZABLE))
        if reply:
            answer = replace(answer, error=self._judge(path, lowest, reply))
        self._record.add(answer)
        return not answer.error

    def _judge(self, path: str, lowest: int, reply: Reply) -> str:
        if reply.status == _NOT_FOUND:
            return self._ledger.judge(path, lowest, None)
        if reply.status != 200:
            return _problem(reply, {200, _NOT_FOUND})
        try:
            return self._ledger.judge(path, lowest, sequence_of(path, reply.body))
        except Damaged as damage:
            return f"wrong content: {damage}"


def _problem(reply: Reply, expected: set[int]) -> str:
    """What an answer says that should not have come."""
    said = reply.body[:300].decode(errors="replace").strip()
    return f"instead of {' or '.join(map(str, sorted(expected)))}: {said or 'no reason given'}"
