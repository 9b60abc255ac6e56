"""The way from the transport's thread to the tick thread."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Inbox(Generic[Event]):
    """Events in order, with a descriptor that is readable while there are some."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signalled = False

    def fileno(self) -> int:
        return self._descriptor

    def put(self, event: Event) -> None:
        """Append `event` and wake who waits. For any thread."""
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """End a wait at once. For any thread."""
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._descriptor, 1)

    def start_taking(self) -> int:
        """How many events there are; what is put from now on signals again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        self._signalled = False
        return len(self._events)

    def take(self) -> Event:
        """The oldest event."""
        return self._events.popleft()

    def __len__(self) -> int:
        return len(self._events)

    def close(self) -> None:
        """Close the descriptor. Nobody may put any more."""
        os.close(self._descriptor)
