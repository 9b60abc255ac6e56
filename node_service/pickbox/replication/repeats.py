"""Troubles that come dozens of times a second while they last, and are told once in a while."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY: Final = 10.0
"""Seconds between two lines in the log about one trouble."""


class Repeats:
    """Counts what need not be told each time. Thread-safe; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def to_tell(self, trouble: str) -> int:
        """Count `trouble`; how often it came since it was told, 0 if it is too early to tell it."""
        now = self._clock()
        with self._lock:
            self._times[trouble] = self._times.get(trouble, 0) + 1
            if now - self._told.get(trouble, float("-inf")) < EVERY:
                return 0
            self._told[trouble] = now
            return self._times.pop(trouble)
