"""What is known of each path: which writes were begun, which were acknowledged, what may be read.

Each path has one writer, which does one write at a time. So what a read may find is bounded: by the
last write that was acknowledged before it was sent, and the last that was begun before it was
answered. A write without a clear answer may take effect at any time, even after later ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

NEVER: Final = 0
"""The number of the write before the first one: nothing is there."""


@dataclass
class Entry:
    """The writes of one path, by their numbers."""

    begun: int = NEVER
    acknowledged: int = NEVER
    sizes: dict[int, int | None] = field(default_factory=lambda: {NEVER: None})
    """Number of a write -> size of its content; None when it leaves nothing there."""
    unclear: set[int] = field(default_factory=set)

    @property
    def size(self) -> int | None:
        """Of what the acknowledged write left there."""
        return self.sizes[self.acknowledged]


class Ledger:
    """All paths. Every method is safe to call from any thread."""

    def __init__(self, paths: list[str]) -> None:
        self._lock = threading.Lock()
        self._entries = {path: Entry() for path in paths}
        self.paths = paths

    def entry(self, path: str) -> Entry:
        """The path's entry, for its writer."""
        return self._entries[path]

    def begin(self, path: str, size: int | None) -> int:
        """Note that a write is about to be sent, and give it a number."""
        with self._lock:
            entry = self._entries[path]
            entry.begun += 1
            entry.sizes[entry.begun] = size
            return entry.begun

    def acknowledge(self, path: str, number: int) -> None:
        with self._lock:
            self._entries[path].acknowledged = number

    def refuse(self, path: str, number: int) -> None:
        """Note that a write was refused: it took no effect and never will."""
        with self._lock:
            del self._entries[path].sizes[number]

    def lose(self, path: str, number: int) -> None:
        """Note that nobody knows what became of a write."""
        with self._lock:
            self._entries[path].unclear.add(number)

    def acknowledged(self, path: str) -> int:
        """The write that a read which is sent now has to find, or a later one."""
        with self._lock:
            return self._entries[path].acknowledged

    def judge(self, path: str, lowest: int, found: int | None) -> str:
        """What is wrong with a read that found this write (None: nothing there); empty if nothing.

        `lowest` is the oldest write that it may find.
        """
        with self._lock:
            entry = self._entries[path]
            possible = [n for n in range(lowest, entry.begun + 1) if n in entry.sizes]
            possible += [n for n in entry.unclear if n < lowest]
            if found is None:
                right = any(entry.sizes[number] is None for number in possible)
            else:
                right = found in possible and entry.sizes[found] is not None
            if right:
                return ""
            seen = "nothing" if found is None else f"write {found}"
            missing = "nothing" if entry.sizes[lowest] is None else "content"
            return f"found {seen}; write {lowest} ({missing}) was acknowledged, {entry.begun} begun"

    def final(self) -> dict[str, int | None]:
        """Path -> number of the write that must be there now, None if nothing must be.

        Without the paths of which that is not known.
        """
        with self._lock:
            return {
                path: None if entry.size is None else entry.acknowledged
                for path, entry in self._entries.items()
                if not entry.unclear
            }
