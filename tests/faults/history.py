"""What clients did and were told: the material that the checkers judge."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal

Kind = Literal["put", "delete", "move", "get"]
Outcome = Literal["done", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client.

    Attributes:
        token: the content that a put wrote, a move took along, or a get found; None for a delete
            or nothing.
        conditional: whether it was to happen only while the content was `expected` (If-Match;
            None for If-None-Match: *).
        called, returned: monotonic seconds; an operation whose outcome is unknown never returned.
        outcome: ``refused`` is an answer too: the condition did not hold at that moment, or there
            was nothing to delete.
        index: the log index that the answer named; 0 if none.
        version: the version that the answer named; 0 if none.
        destination: where a move took it; it is to happen only while nothing is there.
        expected_version: the version that the condition named; 0 if none.
    """

    client: int
    kind: Kind
    path: str
    token: str | None
    called: float
    returned: float
    outcome: Outcome = "done"
    conditional: bool = False
    expected: str | None = None
    index: int = 0
    version: int = 0
    destination: str = ""
    expected_version: int = 0

    @property
    def group(self) -> str:
        """Moves are between paths of one group only, so that each group can be judged alone."""
        return self.path.partition(".")[0]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it is about."""
        return (self.path, self.destination) if self.destination else (self.path,)

    @property
    def writes(self) -> bool:
        """Whether it changed something, or may have."""
        return self.kind != "get" and self.outcome != "refused"

    def __post_init__(self) -> None:
        if self.outcome == "unknown" and self.returned != math.inf:
            raise ValueError("an operation of unknown outcome has not returned: math.inf")


class History:
    """Operations in the order in which they ended; clients on many threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        with self._lock:
            self._operations.append(operation)

    def operations(self) -> list[Operation]:
        """A copy of what there is so far."""
        with self._lock:
            return list(self._operations)

    def groups(self) -> dict[str, list[Operation]]:
        """The operations on each group of paths."""
        found: dict[str, list[Operation]] = {}
        for operation in self.operations():
            found.setdefault(operation.group, []).append(operation)
        return found
