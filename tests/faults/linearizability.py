"""The black-box check: is there one order of the operations that explains every answer?

Wing and Gong's search with Lowe's memory of what was seen ("Testing for linearizability", 2017).
Groups of paths do not influence each other, so each is judged alone (Herlihy and Wing:
linearizability is local). It trusts nothing that the cluster says of itself but the answers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults.history import Operation

MAX_OPERATIONS: Final = 200
"""On one group; the search may take exponential time, so workloads change paths before that."""
_MAX_STATES: Final = 500_000


class TooHard(Exception):
    """The search did not end within its bound: the history is neither right nor wrong."""


class Held(NamedTuple):
    """What is at a path.

    Attributes:
        token: of its content.
        moved: the version that a move gave it, None if that is not known; 0 if it was put there.
    """

    token: str
    moved: int | None = 0


State = tuple[Held | None, ...]
"""What is at each path, the paths sorted."""


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Whether the operations on one group, empty at first, can be put into one order.

    Raises:
        ValueError: there are operations on several groups, or more than `MAX_OPERATIONS`.
        TooHard: the search was given up.
    """
    if len({operation.group for operation in operations}) > 1:
        raise ValueError("operations on several groups: check each group alone")
    if len(operations) > MAX_OPERATIONS:
        raise ValueError(f"{len(operations)} operations on one group, at most {MAX_OPERATIONS}")
    return _Search(operations).succeeds()


class _Search:
    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = sorted(operations, key=lambda operation: operation.called)
        paths = sorted({path for operation in operations for path in operation.paths})
        self._places = {path: place for place, path in enumerate(paths)}

    def succeeds(self) -> bool:
        needed = sum(1 << n for n, o in enumerate(self._operations) if o.outcome != "unknown")
        seen: set[tuple[int, State]] = set()
        stack: list[tuple[int, State]] = [(0, (None,) * len(self._places))]
        while stack:
            here = stack.pop()
            if here[0] & needed == needed:
                return True
            if here in seen:
                continue
            seen.add(here)
            if len(seen) > _MAX_STATES:
                count = len(self._operations)
                raise TooHard(f"gave up after {_MAX_STATES} states of {count} operations")
            stack.extend(self._next(*here))
        return False

    def _next(self, done: int, state: State) -> list[tuple[int, State]]:
        """Where one more operation leads, the most promising last."""
        certain: list[tuple[int, State]] = []
        doubtful: list[tuple[int, State]] = []
        for number in self._may_be_next(done):
            operation = self._operations[number]
            if not self._explains(operation, state):
                continue
            after = done | 1 << number
            if not operation.writes:
                return [(after, state)]  # what changes nothing may as well come now
            branch = doubtful if operation.outcome == "unknown" else certain
            branch.append((after, self._changed(operation, state)))
        return doubtful + certain

    def _may_be_next(self, done: int) -> Iterator[int]:
        """Those that were called before any other that is left had returned."""
        earliest = math.inf
        first_left = (~done & (done + 1)).bit_length() - 1
        for number in range(first_left, len(self._operations)):
            if done >> number & 1:
                continue
            if self._operations[number].called > earliest:
                return
            earliest = min(earliest, self._operations[number].returned)
            yield number

    def _explains(self, operation: Operation, state: State) -> bool:
        """Whether the operation could have had its outcome in `state`."""
        found = state[self._places[operation.path]]
        if operation.kind == "get":
            read = None if found is None else found.token
            return operation.outcome == "unknown" or operation.token == read
        if not operation.conditional and not operation.destination:
            return operation.outcome != "refused" or found is None  # there was nothing to delete
        holds = _holds(operation, found) if operation.conditional else found is not None
        if operation.destination and state[self._places[operation.destination]] is not None:
            holds = False
        return holds is None or holds is (operation.outcome != "refused")

    def _changed(self, operation: Operation, state: State) -> State:
        new = list(state)
        token = operation.token
        here = None if operation.destination or token is None else Held(token)
        new[self._places[operation.path]] = here
        if operation.destination and token is not None:
            new[self._places[operation.destination]] = Held(token, operation.version or None)
        return tuple(new)


def _holds(operation: Operation, found: Held | None) -> bool | None:
    """Whether what was expected is there; None if nobody can say.

    A condition names a version, and what was moved away and back has another one.
    """
    if found is None or operation.expected is None:
        return found is None and operation.expected is None
    if found.token != operation.expected:
        return False
    if found.moved == 0:
        return True
    if found.moved is None or not operation.expected_version:
        return None
    return found.moved == operation.expected_version
