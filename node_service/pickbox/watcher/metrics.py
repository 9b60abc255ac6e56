"""What the watcher counts; `pickbox.observability` turns it into metrics."""

from __future__ import annotations

from typing import Protocol


class WatcherMetrics(Protocol):
    """Counters of the watcher. Every method is cheap and may be called from any thread."""

    def scanned(self, reason: str, seconds: float) -> None:
        """A full scan ended; `reason` is start, interval, overflow, ignore-rules or another."""

    def overflowed(self) -> None:
        """The kernel dropped file events."""

    def event_seen(self) -> None:
        """A file event arrived."""

    def change_settled(self, result: str, seconds: float) -> None:
        """A change was answered with status `result`, `seconds` after it was first seen."""

    def conflict_taken(self) -> None:
        """An edit of this folder became a conflict copy."""

    def skipped(self) -> None:
        """A device, pipe or socket was left alone."""

    def failed(self, cause: str) -> None:
        """Something went wrong and is tried again; `cause` is a stable name."""
