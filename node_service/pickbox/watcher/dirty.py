"""The set of paths that want a look, each with the time it is due.

Whoever sees a reason to look (an event, a scan, the placer) marks the path; marks of one path
become one look. Time is the monotonic clock's, in seconds.
"""

from __future__ import annotations

import heapq
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pickbox.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(slots=True)
class Dirty:
    """A path that wants a look.

    Attributes:
        due: when to look, at the earliest.
        since: when it was marked first; survives being put back.
        explained: a delete or move event was seen for it, so that its absence is no surprise.
    """

    path: bytes
    due: float
    since: float
    explained: bool = False


class DirtySet:
    """Thread-safe; implements `pickbox.seams.DirtyPaths`.

    A path that was taken is in hand: it is not handed out again until it is released. Marks that
    arrive meanwhile are kept.
    """

    def __init__(self) -> None:
        self._items: dict[bytes, Dirty] = {}
        self._in_hand: dict[bytes, Dirty] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._changed = threading.Condition()
        self._woken = False

    def mark(self, path: bytes, *, delay: float = 0.0, explained: bool = False) -> None:
        """Have `path` looked at in `delay` seconds, or sooner if it is due sooner already."""
        failpoint("dirty_before_mark")
        now = time.monotonic()
        self._add(Dirty(path, now + delay, now, explained))

    def put_back(self, item: Dirty, delay: float) -> None:
        """Mark again what was taken, `delay` seconds from now, keeping what is known of it."""
        self._add(Dirty(item.path, time.monotonic() + delay, item.since, item.explained))

    def take(self, limit: int) -> list[Dirty]:
        """At most `limit` paths that are due, the longest due first; they are in hand now."""
        now = time.monotonic()
        taken: list[Dirty] = []
        with self._changed:
            while self._heap and len(taken) < limit and self._heap[0][0] <= now:
                due, path = heapq.heappop(self._heap)
                item = self._items.get(path)
                if item is None or item.due != due or path in self._in_hand:
                    continue  # overtaken by another mark, or in hand: `release` pushes it again
                taken.append(item)
                self._in_hand[path] = self._items.pop(path)
        return taken

    def release(self, paths: Iterable[bytes]) -> None:
        """`paths` are no longer in hand."""
        with self._changed:
            for path in paths:
                self._in_hand.pop(path, None)
                item = self._items.get(path)
                if item is not None:
                    self._push(item)

    def wait(self, timeout: float) -> None:
        """Return when a path is due, after `wake`, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._woken:
                now = time.monotonic()
                until = min(self._heap[0][0], deadline) if self._heap else deadline
                if until <= now:
                    break
                self._changed.wait(until - now)
            self._woken = False

    def wake(self) -> None:
        """Let whoever waits go on."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def explains(self, path: bytes) -> bool:
        """Whether a delete event is known for `path` or for a directory above it."""
        with self._changed:
            return any(
                item is not None and item.explained
                for name in ancestry(path)
                for item in (self._items.get(name), self._in_hand.get(name))
            )

    def idle(self, except_for: Iterable[bytes] = ()) -> bool:
        """Whether nothing is in hand and nothing is dirty but what is in `except_for`."""
        with self._changed:
            return not self._in_hand and self._items.keys() <= set(except_for)

    def __len__(self) -> int:
        with self._changed:
            return len(self._items.keys() | self._in_hand.keys())

    def _add(self, item: Dirty) -> None:
        with self._changed:
            known = self._items.get(item.path)
            if known is not None:
                known.explained |= item.explained
                known.since = min(known.since, item.since)
                if known.due <= item.due:
                    return
                known.due = item.due
                item = known
            self._items[item.path] = item
            if item.path not in self._in_hand:
                self._push(item)

    def _push(self, item: Dirty) -> None:
        heapq.heappush(self._heap, (item.due, item.path))
        self._changed.notify_all()


def ancestry(path: bytes) -> Iterator[bytes]:
    """`path` and the directories above it, the nearest first."""
    while path:
        yield path
        path, _, _ = path.rpartition(b"/")
