"""Commands on their way into the log: a bounded queue, and one answer for each, exactly once."""

from __future__ import annotations

import enum
import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Fate(enum.Enum):
    """What became of a proposal."""

    COMMITTED = "committed"
    NOT_APPENDED = "not appended"
    """It is not in the log and never will be: propose it again."""
    UNKNOWN = "unknown"
    """It may be committed yet, or be so already: ask by its request id."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a proposal: `value` is what the state machine said, at log entry `index`."""

    fate: Fate
    index: int = 0
    value: object = None
    reason: str = ""


Callback: TypeAlias = "Callable[[Outcome], None]"


class Proposal(NamedTuple):
    """A command with its kind, and who waits for it."""

    command: bytes
    callback: Callback


class _Waiting(NamedTuple):
    term: int
    callback: Callback
    deadline: float | None


class Proposals:
    """The queue in front of the log, and who waits for which entry.

    Args:
        most: proposals that may queue; more are turned away.
        most_bytes: bytes of commands that may queue.
    """

    def __init__(self, most: int = 10_000, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._queue: deque[Proposal] = deque()
        self._queued_bytes = 0
        self._waiting: dict[int, _Waiting] = {}
        self._next_deadline = math.inf
        self._closed = ""

    def submit(self, proposal: Proposal) -> None:
        """Queue a proposal; a full queue answers at once. For any thread."""
        size = len(proposal.command)
        with self._lock:
            refusal = self._closed
            if not refusal and (
                len(self._queue) >= self._most or self._queued_bytes + size > self._most_bytes
            ):
                refusal = "too many proposals are waiting"
            if not refusal:
                self._queue.append(proposal)
                self._queued_bytes += size
        if refusal:
            answer(proposal.callback, Outcome(Fate.NOT_APPENDED, reason=refusal))

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """How many appended proposals have no answer yet."""
        return len(self._waiting)

    def take(self, most: int, most_bytes: int) -> list[Proposal]:
        """The next proposals of the queue: at least one if there are any."""
        taken: list[Proposal] = []
        size = 0
        with self._lock:
            while self._queue and len(taken) < most and (not taken or size < most_bytes):
                proposal = self._queue.popleft()
                taken.append(proposal)
                size += len(proposal.command)
            self._queued_bytes -= size
        return taken

    def refuse_queued(self, reason: str) -> None:
        """Answer all that is queued: not appended."""
        while self._queue:
            for proposal in self.take(1000, 1 << 30):
                answer(proposal.callback, Outcome(Fate.NOT_APPENDED, reason=reason))

    def expect(self, index: int, term: int, callback: Callback) -> None:
        """Have `callback` answered when entry `index` is applied."""
        self._waiting[index] = _Waiting(term, callback, None)

    def applied(self, index: int, term: int, value: object) -> None:
        """Answer whoever waits for entry `index`; a later leader may have put another one there."""
        waiting = self._waiting.pop(index, None)
        if waiting is None:
            return
        if waiting.term == term:
            answer(waiting.callback, Outcome(Fate.COMMITTED, index, value))
        else:
            reason = "another leader's entry took its place"
            answer(waiting.callback, Outcome(Fate.NOT_APPENDED, index, reason=reason))

    def give_up_by(self, deadline: float) -> None:
        """This node leads no more: whoever waits hears by `deadline`, one way or the other."""
        self._next_deadline = min(self._next_deadline, deadline)
        self._waiting = {
            index: _Waiting(w.term, w.callback, deadline if w.deadline is None else w.deadline)
            for index, w in self._waiting.items()
        }

    def expire(self, now: float) -> None:
        """Answer those whose time is up."""
        if now < self._next_deadline:
            return
        deadlines = {i: w.deadline for i, w in self._waiting.items() if w.deadline is not None}
        due = [index for index, deadline in deadlines.items() if deadline <= now]
        self._unknown(due, "this node lost its leadership before the entry was committed")
        self._next_deadline = min((d for d in deadlines.values() if d > now), default=math.inf)

    def lost_sight_from(self, first: int) -> None:
        """Entries from `first` on were truncated; another node may hold and commit them yet."""
        gone = [index for index in self._waiting if index >= first]
        self._unknown(gone, "the new leader's log replaced the entry here")

    def lost_sight_to(self, last: int) -> None:
        """A snapshot brought everything up to `last`, without saying what each entry did."""
        gone = [index for index in self._waiting if index <= last]
        self._unknown(gone, "a snapshot overtook the entry")

    def close(self, reason: str) -> None:
        """Answer everything, and from now on turn all away."""
        with self._lock:
            self._closed = reason
        self.refuse_queued(reason)
        self._unknown(list(self._waiting), reason)

    def _unknown(self, indexes: list[int], reason: str) -> None:
        for index in indexes:
            waiting = self._waiting.pop(index)
            answer(waiting.callback, Outcome(Fate.UNKNOWN, index, reason=reason))


def answer(callback: Callback, outcome: Outcome) -> None:
    """Call back; what goes wrong in there is the caller's and must not stop the log."""
    try:
        callback(outcome)
    except Exception:
        log.exception("proposal_callback_failed", extra={"fields": {"index": outcome.index}})
