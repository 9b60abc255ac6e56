"""What happened in many runs, in figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.events import (
    Answered,
    Called,
    Event,
    Fate,
    Installed,
    Led,
    Operation,
    Stopped,
    Wiped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulation.world import Outcome

_DONE = {
    Operation.WRITE: "writes acknowledged",
    Operation.READ: "reads answered",
    Operation.CHANGE: "members changed",
    Operation.TRANSFER: "leadership handed over",
}


@dataclass
class Tally:
    """Figures of runs; they add up.

    Attributes:
        happened: how often each thing did.
        broken: in how many seeds each invariant was, and an example of it.
    """

    happened: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)

    def take(self, seed: int, outcome: Outcome) -> None:
        self.happened["seeds"] += 1
        self.happened["steps"] += outcome.steps
        self.happened.update(_happenings(outcome.events))
        if outcome.violations:
            self.failed.append(seed)
        self.broken.update({violation.invariant for violation in outcome.violations})
        for violation in outcome.violations:
            self.examples.setdefault(violation.invariant, f"seed {seed}: {violation.message}")

    def add(self, other: Tally) -> None:
        self.happened.update(other.happened)
        self.broken.update(other.broken)
        self.failed.extend(other.failed)
        self.examples = {**other.examples, **self.examples}

    def lines(self) -> Iterable[str]:
        yield ", ".join(f"{count} {what}" for what, count in self.happened.items())
        shown = " ".join(map(str, self.failed[:20]))
        yield f"{len(self.failed)} seeds with violations{': ' if shown else ''}{shown}"
        for invariant, count in self.broken.most_common():
            yield f"{count:6} {invariant}: {self.examples[invariant]}"


def _happenings(events: Iterable[Event]) -> Iterable[str]:
    operations: dict[int, Operation] = {}
    for event in events:
        match event:
            case Called():
                operations[event.call] = event.operation
            case Answered(fate=Fate.DONE):
                yield _DONE[operations[event.call]]
            case Led():
                yield "elections"
            case Stopped():
                yield event.how.value
            case Wiped():
                yield "nodes wiped"
            case Installed():
                yield "snapshots installed"
