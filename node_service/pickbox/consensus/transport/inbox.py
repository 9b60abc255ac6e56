"""The way from the transport's thread to the tick thread."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from pickbox.waker import Waker

Event = TypeVar("Event")


class Inbox(Generic[Event]):
    """Events in order, with a descriptor that is readable while there are some."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._waker = Waker()

    def fileno(self) -> int:
        return self._waker.fileno()

    def put(self, event: Event) -> None:
        """Append `event` and wake who waits. For any thread."""
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """End a wait at once. For any thread."""
        self._waker.wake()

    def start_taking(self) -> int:
        """How many events there are; what is put from now on signals again."""
        self._waker.clear()
        return len(self._events)

    def take(self) -> Event:
        """The oldest event."""
        return self._events.popleft()

    def __len__(self) -> int:
        return len(self._events)

    def close(self) -> None:
        """Close the descriptor; nobody waits for what is put from now on."""
        self._waker.close()
