"""Paths that could not be taken in, why, and when to try again."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 60.0


@dataclass(slots=True)
class _Failure:
    reason: str
    attempts: int = 0


class Failures:
    """What went wrong with single paths; thread-safe."""

    def __init__(self) -> None:
        self._failures: dict[bytes, _Failure] = {}
        self._lock = threading.Lock()

    def record(self, path: bytes, reason: str) -> float:
        """Note why `path` failed; return the seconds after which to try again."""
        with self._lock:
            failure = self._failures.setdefault(path, _Failure(reason))
            failure.reason = reason
            failure.attempts += 1
            return backoff(failure.attempts, FIRST_DELAY, LONGEST_DELAY)

    def clear(self, path: bytes) -> None:
        """`path` is fine, or gone."""
        with self._lock:
            self._failures.pop(path, None)

    def paths(self) -> list[bytes]:
        """The paths that failed at their last look."""
        with self._lock:
            return list(self._failures)

    def list(self) -> list[tuple[bytes, str]]:
        """Path and reason, in path order."""
        with self._lock:
            return sorted((path, failure.reason) for path, failure in self._failures.items())


def backoff(attempt: int, first: float, longest: float) -> float:
    """Seconds before attempt number `attempt` + 1: doubling, at most `longest`, jittered."""
    return min(longest, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
