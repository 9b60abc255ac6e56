"""Ends another thread's wait for descriptors (eventfd(2))."""

from __future__ import annotations

import contextlib
import os
import threading


class Waker:
    """A descriptor that is readable once somebody has called `wake`.

    It may be closed while others wake: its number may be another file's a moment later, and
    nothing is written into that.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The descriptor to wait for; -1 once it is closed."""
        return self._descriptor

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    def wake(self) -> None:
        """Make it readable. For any thread; never fails, and never waits for who is woken."""
        if self._woken:
            return
        self._woken = True
        with self._lock:
            if not self.closed:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Wait anew. What was to be told by `wake` is to be looked at after this, not before."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self.closed:
                os.eventfd_read(self._descriptor)
        self._woken = False

    def close(self) -> None:
        """Close the descriptor; whoever wakes from now on does nothing."""
        with self._lock:
            if not self.closed:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
