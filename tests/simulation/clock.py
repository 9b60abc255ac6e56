"""Time in the simulation: one true clock, and each node's own view of it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STEP = 0.0002


@dataclass(slots=True)
class Watch:
    """A node's own clock: it began at `offset` and runs at `rate`.

    `lag` is above 0 while a node that was stopped goes on with the time that it had looked up.
    """

    offset: float = 0.0
    rate: float = 1.0
    lag: float = 0.0

    def at(self, now: float) -> float:
        return self.offset + self.rate * (now - self.lag)


_TRUE = Watch()


class Clock:
    """Seconds that pass when the simulation says so, and a little with each look at the clock.

    Without that little the library never leaves loops that it bounds by time.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self._watch = _TRUE

    def __call__(self) -> float:
        self.now += _STEP
        return self._watch.at(self.now)

    @contextmanager
    def seen_by(self, watch: Watch) -> Iterator[None]:
        """What is called in the block looks at `watch`."""
        before, self._watch = self._watch, watch
        try:
            yield
        finally:
            self._watch = before


def of_this_thread(clock: Clock, others: Callable[[], float]) -> Callable[[], float]:
    """`clock` on the thread that calls this, and `others` on all others of the process.

    A node of another test may still run in it, and each of its looks would pass time here.
    """
    own = threading.get_ident()
    return lambda: clock() if threading.get_ident() == own else others()
