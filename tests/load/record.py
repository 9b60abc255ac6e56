"""Every answer on a line of its own, and what they come to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_EXAMPLES = 10


@dataclass(frozen=True)
class Answer:
    """One request and what a client saw of it."""

    at: float
    """Seconds since the epoch at which it was sent."""
    began: float
    """The same moment by the monotonic clock."""
    seconds: float
    operation: str
    method: str
    path: str
    status: int = 0
    error: str = ""
    """Why there was no answer, or what was wrong with it; empty when it was as it should be."""
    resent: bool = False
    """The kept connection had ended before anything of the answer came, so it was sent anew."""

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def wrote(self) -> bool:
        """Whether it was a write that was done; one that was to be refused is none."""
        return self.method in {"PUT", "DELETE"} and 200 <= self.status < 300 and not self.error


class Record:
    """Writes down each answer as it comes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.answers: list[Answer] = []

    def add(self, answer: Answer) -> None:
        with self._lock:
            self.answers.append(answer)
            if self._file:
                self._file.write(json.dumps(asdict(answer)) + "\n")


def read(lines: Iterable[str]) -> list[Answer]:
    """The answers of a record."""
    return [Answer(**json.loads(line)) for line in lines]


def longest_gap(moments: list[float], began: float, ended: float) -> float:
    """The longest time between two of these moments, or until the first, or since the last."""
    ordered = [began, *sorted(moments), ended]
    return max(after - before for before, after in pairwise(ordered))


def summary(answers: list[Answer], began: float, ended: float) -> dict[str, Any]:
    """What happened between two moments of the monotonic clock."""
    chosen = [answer for answer in answers if began <= answer.ended <= ended]
    failed = [answer for answer in chosen if answer.error]
    written = [answer.ended for answer in chosen if answer.wrote]
    times = sorted(answer.seconds for answer in chosen)
    return {
        "requests": len(chosen),
        "failed": len(failed),
        "writes": len(written),
        "longest_write_gap_s": round(longest_gap(written, began, ended), 3),
        "by_status": dict(sorted(Counter(str(answer.status) for answer in chosen).items())),
        "by_operation": dict(sorted(Counter(answer.operation for answer in chosen).items())),
        "resent": sum(answer.resent for answer in chosen),
        "seconds": round(ended - began, 1),
        "p50_s": round(times[len(times) // 2], 4) if times else None,
        "p99_s": round(times[len(times) * 99 // 100], 4) if times else None,
        "slowest_s": round(times[-1], 3) if times else None,
        "failures": [
            f"{time.strftime('%H:%M:%S', time.gmtime(answer.at))} {answer.method} {answer.path}: "
            f"{answer.status} {answer.error}"
            for answer in failed[:MOST_EXAMPLES]
        ],
    }
