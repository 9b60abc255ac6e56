"""What clients are promised, each with a checker that says how it was broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.events import (
    Answered,
    Applied,
    Called,
    Committed,
    Ended,
    Event,
    Fate,
    Led,
    Operation,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class AcknowledgedIsDurable:
    """What is committed is on the disks of a majority of the voters; a done write is committed."""

    name = "acknowledged is durable"
    concerns: tuple[type[Event], ...] = (Called, Answered, Committed, Applied)

    def __init__(self) -> None:
        self._writes: dict[int, bytes] = {}
        self._committed: dict[int, bytes] = {}
        self._acknowledged: dict[int, bytes] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Called):
            if event.operation is Operation.WRITE:
                self._writes[event.call] = event.command
        elif isinstance(event, Answered):
            if event.fate is Fate.DONE and event.call in self._writes:
                yield from self._acknowledge(event)
            return
        elif isinstance(event, Committed | Applied):
            expected = self._acknowledged.get(event.index)
            if expected is not None and expected != event.command:
                yield (
                    f"index {event.index} was acknowledged as {expected!r}, "
                    f"{event.node} has {event.command!r} there"
                )
        if isinstance(event, Committed):
            self._committed.setdefault(event.index, event.command)
            yield from self._decide(event)

    def _decide(self, event: Committed) -> Iterable[str]:
        safe = set(event.holders) & set(event.voters)
        if event.voters and 2 * len(safe) <= len(event.voters):
            yield (
                f"{event.node} commits {event.command!r} at index {event.index} with only "
                f"{sorted(safe)} of the voters {list(event.voters)} holding it durably"
            )

    def _acknowledge(self, event: Answered) -> Iterable[str]:
        command = self._writes[event.call]
        other = self._acknowledged.setdefault(event.index, command)
        if other != command:
            yield f"{other!r} and {command!r} were both acknowledged at index {event.index}"
        if self._committed.get(event.index) != command:
            yield f"{command!r} was acknowledged at index {event.index}, where nobody committed it"


class Linearizable:
    """Log indexes as witness: whatever returned before a call began, the call comes after it."""

    name = "linearizable"
    concerns: tuple[type[Event], ...] = (Called, Answered)

    def __init__(self) -> None:
        self._seen = 0
        self._owed: dict[int, tuple[int, Operation]] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Called):
            self._owed[event.call] = self._seen, event.operation
            return
        assert isinstance(event, Answered)
        owed, operation = self._owed.get(event.call, (0, Operation.READ))
        if event.fate is not Fate.DONE or operation is Operation.TRANSFER:
            return
        if operation is Operation.READ and event.index < owed:
            yield (
                f"read {event.call} saw the state at index {event.index}, but index {owed} was "
                f"answered before it was asked for"
            )
        if operation is not Operation.READ and event.index <= owed:
            yield (
                f"call {event.call} took index {event.index}, but index {owed} was answered before "
                f"it was asked for"
            )
        self._seen = max(self._seen, event.index)


class AnsweredOnce:
    """Every call hears exactly once, unless its node died."""

    name = "answered exactly once"
    concerns: tuple[type[Event], ...] = (Called, Answered, Ended)

    def __init__(self) -> None:
        self._answers: dict[int, int] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Called):
            self._answers[event.call] = 0
        elif isinstance(event, Answered):
            self._answers[event.call] += 1
            if self._answers[event.call] > 1:
                yield f"call {event.call} was answered {self._answers[event.call]} times"
        elif isinstance(event, Ended):
            for call, answers in self._answers.items():
                if not answers and call not in event.excused:
                    yield f"call {call} was never answered, though its node lived on"
                    return


class AppliedOnce:
    """A command is applied at one index at most, and one that was refused at none."""

    name = "applied at most once"
    concerns: tuple[type[Event], ...] = (Called, Answered, Applied)

    def __init__(self) -> None:
        self._writes: dict[int, bytes] = {}
        self._refused: set[bytes] = set()
        self._indexes: dict[bytes, int] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Called):
            if event.operation is Operation.WRITE:
                self._writes[event.call] = event.command
        elif isinstance(event, Answered):
            command = self._writes.get(event.call)
            if event.fate is Fate.REFUSED and command is not None:
                self._refused.add(command)
                if command in self._indexes:
                    yield f"{command!r} was refused after it was applied"
        elif isinstance(event, Applied):
            index = self._indexes.setdefault(event.command, event.index)
            if index != event.index:
                yield f"{event.command!r} is applied at index {index} and at {event.index}"
            if event.command in self._refused:
                yield f"{event.command!r} was refused and is applied at index {event.index}"


class TransfersAreTrue:
    """Who is named as the new leader has led after the transfer was asked for."""

    name = "a transfer says who leads"
    concerns: tuple[type[Event], ...] = (Called, Answered, Led)

    def __init__(self) -> None:
        self._led: dict[str, int] = {}
        self._asked: dict[int, Called] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Led):
            self._led[event.node] = event.term
        elif isinstance(event, Called):
            if event.operation is Operation.TRANSFER:
                self._asked[event.call] = event
        elif isinstance(event, Answered):
            asked = self._asked.get(event.call)
            if asked is None or event.fate is not Fate.DONE:
                return
            if event.said == asked.node or self._led.get(event.said, -1) <= asked.term:
                yield (
                    f"{asked.node} says that it has handed over to {event.said}, which has not led "
                    f"since term {asked.term}"
                )


class Converges:
    """When the faults are over there is a leader, and all members have every done write."""

    name = "converges"
    concerns: tuple[type[Event], ...] = (Called, Answered, Ended)

    def __init__(self) -> None:
        self._done = 0
        self._writes: set[int] = set()

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Called):
            if event.operation is Operation.WRITE:
                self._writes.add(event.call)
        elif isinstance(event, Answered):
            if event.fate is Fate.DONE and event.call in self._writes:
                self._done = max(self._done, event.index)
        elif isinstance(event, Ended):
            if len(set(event.applied.values())) > 1 or len(set(event.states.values())) > 1:
                yield f"the members still differ, they have applied {event.applied}"
            elif event.leader is None:
                yield "no leader takes a write"
            elif min(event.applied.values()) < self._done:
                yield f"all members end at {event.applied}, index {self._done} was acknowledged"
