"""The promises of Raft and of this project, all of which are watched in each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from simulation.promises import (
    AcknowledgedIsDurable,
    AnsweredOnce,
    AppliedOnce,
    Converges,
    Linearizable,
    TransfersAreTrue,
)
from simulation.safety import (
    CommitsByItsOwnTerm,
    LeaderCompleteness,
    LogMatching,
    NothingDiverges,
    NothingFails,
    NothingGoesBack,
    OneChangeAtATime,
    OneCluster,
    OneLeaderATerm,
    OneVoteATerm,
    StateMachineSafety,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulation.events import Event


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: its name, and what happened."""

    invariant: str
    message: str


class Checker(Protocol):
    """Watches one promise; what it yields are violations, in words."""

    name: str
    concerns: tuple[type[Event], ...]

    def see(self, event: Event) -> Iterable[str]: ...


def all_checkers() -> list[Checker]:
    """A new set, for one run."""
    return [
        OneLeaderATerm(),
        OneVoteATerm(),
        LogMatching(),
        LeaderCompleteness(),
        CommitsByItsOwnTerm(),
        StateMachineSafety(),
        NothingGoesBack(),
        OneCluster(),
        OneChangeAtATime(),
        NothingDiverges(),
        AcknowledgedIsDurable(),
        Linearizable(),
        AnsweredOnce(),
        AppliedOnce(),
        TransfersAreTrue(),
        NothingFails(),
        Converges(),
    ]


class Invariants:
    """Shows events to the checkers that they concern, and keeps what those find."""

    def __init__(self, checkers: Sequence[Checker] | None = None) -> None:
        self.violations: list[Violation] = []
        self._by_event: dict[type[Event], list[Checker]] = {}
        for checker in all_checkers() if checkers is None else checkers:
            for kind in checker.concerns:
                self._by_event.setdefault(kind, []).append(checker)

    def see(self, event: Event) -> None:
        for checker in self._by_event.get(type(event), ()):
            for message in checker.see(event):
                self.violations.append(Violation(checker.name, message))
