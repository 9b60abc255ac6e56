"""Linearizable reads without an entry in the log: Ongaro's thesis, section 6.4 (ReadIndex).

No clock is trusted: a leader that was paused or cut off finds out by the heartbeat round that it
begins after the read was asked for, which a majority must answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pickbox.consensus.proposals import Fate, Outcome, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.appending import Appending
    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.proposals import Callback


class ReadingCore(Protocol):
    """What reads need of the core."""

    @property
    def leads(self) -> bool: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def own_term_is_committed(self) -> bool: ...
    def post(self, call: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Round:
    number: int
    index: int
    callbacks: list[Callback]


class Reads:
    """Barriers that wait for a round, and rounds that wait to be confirmed and applied."""

    def __init__(self, core: ReadingCore, appending: Appending) -> None:
        self._core = core
        self._appending = appending
        self._new: list[Callback] = []
        self._round: _Round | None = None
        self._confirmed: deque[_Round] = deque()

    def barrier(self, callback: Callback) -> None:
        """Answer with an index that this node has applied and that covers all acknowledged before.

        For any thread.
        """
        self._core.post(lambda: self._new.append(callback))

    def tick(self) -> None:
        """Begin a round for those who wait, unless one is under way; answer those it confirms."""
        core = self._core
        if not core.leads:
            if self._new or self._round or self._confirmed:
                self.close("this node does not lead")
            return
        self._confirm()
        if self._round is None and self._new and core.own_term_is_committed:
            waiting, self._new = self._new, []
            self._round = _Round(self._appending.start_round(), core.commit_index, waiting)
            self._confirm()  # a single voter is its own majority
        while self._confirmed and self._confirmed[0].index <= core.applied_index:
            confirmed = self._confirmed.popleft()
            for callback in confirmed.callbacks:
                answer(callback, Outcome(Fate.COMMITTED, confirmed.index))

    def _confirm(self) -> None:
        core, waiting = self._core, self._round
        if waiting and self._appending.round_of_majority(core.configuration) >= waiting.number:
            self._confirmed.append(waiting)
            self._round = None

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a round to begin that may begin now."""
        return bool(self._new) and self._round is None and self._core.own_term_is_committed

    def close(self, reason: str) -> None:
        """Answer all who wait that there is no barrier."""
        waiting = [*self._new]
        for round_ in (*self._confirmed, *([self._round] if self._round else [])):
            waiting.extend(round_.callbacks)
        self._new, self._round = [], None
        self._confirmed.clear()
        for callback in waiting:
            answer(callback, Outcome(Fate.NOT_APPENDED, reason=reason))
