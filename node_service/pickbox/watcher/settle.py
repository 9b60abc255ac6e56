"""Is a file settled, or is somebody still writing it?

A lease tells whether anybody has it open for writing. Where leases are not to be had (another
owner's file, some file systems), a file is settled when it has not changed for a while.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from pickbox.storage.leases import has_writer
from pickbox.watcher.content import ChangedWhileRead, read_digest

if TYPE_CHECKING:
    from os import stat_result

TICK: Final = 0.02
"""Seconds. A change within one tick of the kernel's coarse clock (4 to 10 ms, before Linux 6.13)
after another leaves the times as they are: what is younger than this could change unnoticed."""

Signature: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True)
class _Waiting:
    """A file that was found unsettled: since when, and as what it was last seen since when."""

    since: float
    signature: Signature
    seen: float
    looks: int = 0
    digest: bytes = b""


class Settling:
    """Decides how long to wait for a file. Times are seconds.

    Args:
        quiet: how long a file without a lease has to stay the same.
        limit: how long an open writer is waited for; then the file is taken if it stands still.
    """

    def __init__(self, quiet: float, limit: float) -> None:
        self._quiet = quiet
        self._limit = limit
        self._waiting: dict[bytes, _Waiting] = {}
        self._lock = threading.Lock()

    def wait_for(self, path: bytes, file: BinaryIO, stat: stat_result) -> float:
        """Seconds to wait before `file`, open for reading, is looked at again; 0 if settled."""
        written = has_writer(file)
        if written is False:
            self.forget(path)
            age = time.time_ns() - stat.st_ctime_ns
            return TICK if 0 <= age < TICK * 1e9 else 0.0
        waiting = self._observe(path, stat)
        still = time.monotonic() - waiting.seen
        if written is None:
            return self._settled_when_quiet(path, still)
        if time.monotonic() - waiting.since < self._limit:
            return max(self._quiet, TICK)
        return self._take_despite_writer(path, waiting, file, still)

    def busy(self) -> list[bytes]:
        """Paths whose writer has been waited for longer than the limit."""
        now = time.monotonic()
        with self._lock:
            return sorted(p for p, w in self._waiting.items() if now - w.since > self._limit)

    def forget(self, path: bytes) -> None:
        """Nothing is waited for at `path` any more."""
        with self._lock:
            self._waiting.pop(path, None)

    def _observe(self, path: bytes, stat: stat_result) -> _Waiting:
        now, signature = time.monotonic(), _signature(stat)
        with self._lock:
            waiting = self._waiting.get(path)
            if waiting is None:
                waiting = self._waiting[path] = _Waiting(now, signature, now)
            elif waiting.signature != signature:
                waiting.signature, waiting.seen, waiting.digest = signature, now, b""
            return waiting

    def _settled_when_quiet(self, path: bytes, still: float) -> float:
        if still >= self._quiet:
            self.forget(path)
            return 0.0
        return max(self._quiet - still, TICK)

    def _take_despite_writer(
        self, path: bytes, waiting: _Waiting, file: BinaryIO, still: float
    ) -> float:
        """Two full hashes must agree: a mapped file changes without a new time."""
        waiting.looks += 1
        again = min(self._limit, 2.0 ** min(waiting.looks, 6))
        if still < self._quiet:
            return again
        before = waiting.digest
        try:
            waiting.digest = read_digest(file).digest
        except ChangedWhileRead:
            return again
        if not before:
            return max(self._quiet, TICK)
        if waiting.digest != before:
            return again
        self.forget(path)
        return 0.0


def _signature(stat: stat_result) -> Signature:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
