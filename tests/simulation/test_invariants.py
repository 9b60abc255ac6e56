"""The checkers find what they are for: each mutation of a good history breaks its promise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.library import MEMBERSHIP
from simulation.events import (
    Answered,
    Appended,
    Applied,
    Called,
    Committed,
    Diverged,
    Ended,
    Event,
    Failed,
    Fate,
    Forgot,
    Led,
    Operation,
    Restarted,
    Stood,
    Voted,
    Wiped,
)
from simulation.invariants import Invariants, all_checkers

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = ("a", "b", "c")


def members(version: int, voters: str, *, learners: str = "", cluster: str = "c") -> bytes:
    """A membership entry."""
    tagged = {v: Participant(f"{v}:1", v.encode()) for v in voters}
    plain = {n: Participant(f"{n}:1") for n in learners}
    return MEMBERSHIP + Configuration(version, cluster, tagged, plain).encode()


FIRST, SECOND = members(1, "abc"), members(2, "abc", learners="d")
DONE = Answered(1, Fate.DONE, 3)
READ = Answered(2, Fate.DONE, 3)
DECIDED = Committed("a", 3, 1, b"x", 1, ("a", "b"), ALL)
CHANGED = Committed("a", 4, 1, SECOND, 1, ("a", "c"), ALL)
HANDED_OVER = Answered(5, Fate.DONE, 0, "b")
NEXT = Led("b", 2, 1, (0, 1, 1, 1))
STOOD = Stood("b", 2, 4, 4, 77)
VOTE = Voted("c", 2, "b")
BACK = Restarted("c", 2, 2, voted_for="b")
END = Ended("b", {"a": 4, "b": 4}, {"a": 77, "b": 77})

GOOD: list[Event] = [
    *[Appended(n, 1, 0, None, FIRST) for n in "abc"],
    Led("a", 1, 1, (0, 1)),
    Called(1, "a", Operation.WRITE, b"x", 1),
    *[Appended(n, 2, 1, 0, b"noop") for n in "abc"],
    *[Appended(n, 3, 1, 1, b"x") for n in "abc"],
    Committed("a", 1, 0, FIRST, 1, ("a", "b"), ALL),
    Committed("a", 2, 1, b"noop", 1, ("a", "b"), ALL),
    DECIDED,
    *[Committed(n, 3, 1, b"x", 1) for n in "bc"],
    *[Applied(n, 3, b"x") for n in "abc"],
    DONE,
    *[Stood(n, 1, 3, 3, 77) for n in "abc"],
    Called(2, "a", Operation.READ, term=1),
    READ,
    Called(3, "a", Operation.WRITE, b"y", 1),
    Answered(3, Fate.REFUSED),
    Called(4, "a", Operation.CHANGE, term=1),
    *[Appended(n, 4, 1, 1, SECOND) for n in "ac"],
    CHANGED,
    Answered(4, Fate.DONE, 4),
    Called(5, "a", Operation.TRANSFER, term=1),
    VOTE,
    BACK,
    NEXT,
    HANDED_OVER,
    Appended("b", 5, 2, 1, b"noop"),
    STOOD,
    Stood("a", 2, 4, 4, 77),
    END,
]


def broken(history: list[Event]) -> set[str]:
    invariants = Invariants()
    for event in history:
        invariants.see(event)
    return {violation.invariant for violation in invariants.violations}


def with_one(change: Callable[[Event], Event | None], after: Event) -> list[Event]:
    """The good history, with something put in after one of its events."""
    position = GOOD.index(after) + 1
    added = change(after)
    assert added is not None
    return [*GOOD[:position], added, *GOOD[position:]]


def without(event: Event, put: Event | None = None) -> list[Event]:
    """The good history, with one event gone or another in its place."""
    position = GOOD.index(event)
    return [*GOOD[:position], *([put] if put else []), *GOOD[position + 1 :]]


MUTATIONS: list[tuple[str, str, list[Event]]] = [
    (
        "a second leader in the term",
        "one leader a term",
        with_one(lambda e: Led("c", 2, 1, (0, 1, 1, 1)), NEXT),
    ),
    (
        "a leader again with another data directory",
        "one leader a term",
        with_one(lambda e: Led("b", 2, 1, (0, 1, 1, 1), life=2), NEXT),
    ),
    ("a vote for another", "one vote a term", with_one(lambda e: Voted("c", 2, "a"), BACK)),
    ("a vote forgotten", "one vote a term", without(BACK, replace(BACK, voted_for=""))),
    (
        "another command under the same index and term",
        "log matching",
        without(Appended("c", 3, 1, 1, b"x"), Appended("c", 3, 1, 1, b"z")),
    ),
    (
        "another predecessor",
        "log matching",
        without(Appended("c", 3, 1, 1, b"x"), Appended("c", 3, 1, 0, b"x")),
    ),
    (
        "a leader without a committed entry",
        "leader completeness",
        without(NEXT, Led("b", 2, 1, (0, 1, 1))),
    ),
    (
        "a leader with another entry there",
        "leader completeness",
        without(NEXT, Led("b", 2, 1, (0, 1, 0, 1))),
    ),
    (
        "an entry of an earlier term committed by itself",
        "own term commits",
        without(DECIDED, replace(DECIDED, in_term=2)),
    ),
    (
        "another command applied",
        "state machine safety",
        without(Applied("c", 3, b"x"), Applied("c", 3, b"z")),
    ),
    (
        "another command committed",
        "state machine safety",
        without(Committed("c", 3, 1, b"x", 1), Committed("c", 3, 1, b"z", 1)),
    ),
    (
        "a state that differs",
        "state machine safety",
        with_one(lambda e: Stood("c", 2, 4, 4, 7), STOOD),
    ),
    ("a term that falls", "nothing goes back", without(STOOD, replace(STOOD, term=0))),
    (
        "a commit index that falls",
        "nothing goes back",
        without(STOOD, replace(STOOD, commit=2, applied=2, state=1)),
    ),
    ("applied before committed", "nothing goes back", without(STOOD, replace(STOOD, applied=5))),
    ("a durable term forgotten", "nothing goes back", without(BACK, replace(BACK, term=0))),
    ("a durable entry lost", "nothing goes back", without(BACK, replace(BACK, lost="entry 3"))),
    (
        "another configuration of the same version",
        "one cluster",
        with_one(lambda e: Committed("c", 5, 2, members(2, "abd"), 2), STOOD),
    ),
    (
        "a configuration of another cluster",
        "one cluster",
        with_one(lambda e: Committed("c", 5, 2, members(3, "abc", cluster="d"), 2), STOOD),
    ),
    (
        "two voters at once",
        "one change at a time",
        with_one(lambda e: Appended("b", 5, 2, 1, members(3, "abcde")), NEXT),
    ),
    (
        "a change after one that is not committed",
        "one change at a time",
        without(CHANGED, Appended("a", 5, 1, 1, members(3, "abcd"))),
    ),
    ("a state said to differ", "no divergence", with_one(lambda e: Diverged("c", 3), DONE)),
    (
        "a commit that a minority holds",
        "acknowledged is durable",
        without(DECIDED, replace(DECIDED, holders=("a",))),
    ),
    (
        "a commit held by those without a vote",
        "acknowledged is durable",
        without(DECIDED, replace(DECIDED, holders=("a", "d", "e"))),
    ),
    (
        "an ack of what nobody committed",
        "acknowledged is durable",
        [event for event in GOOD if not isinstance(event, Committed)],
    ),
    (
        "an acknowledged entry overwritten",
        "acknowledged is durable",
        with_one(lambda e: Committed("c", 3, 2, b"z", 2), DONE),
    ),
    ("a stale read", "linearizable", without(READ, replace(READ, index=2))),
    (
        "a write before what was done",
        "linearizable",
        without(Answered(4, Fate.DONE, 4), Answered(4, Fate.DONE, 3)),
    ),
    ("two answers", "answered exactly once", with_one(lambda e: e, READ)),
    ("no answer", "answered exactly once", without(READ)),
    (
        "a refused write applied",
        "applied at most once",
        with_one(lambda e: Applied("a", 4, b"y"), Answered(3, Fate.REFUSED)),
    ),
    (
        "a write applied twice",
        "applied at most once",
        with_one(lambda e: Applied("a", 4, b"x"), DONE),
    ),
    (
        "a transfer to a node that never led",
        "a transfer says who leads",
        without(HANDED_OVER, replace(HANDED_OVER, said="c")),
    ),
    (
        "a transfer to nobody else",
        "a transfer says who leads",
        without(HANDED_OVER, replace(HANDED_OVER, said="a")),
    ),
    ("a tick that raises", "no tick fails", with_one(lambda e: Failed("a", "IndexError"), DONE)),
    ("a member left behind", "converges", without(END, replace(END, applied={"a": 4, "b": 2}))),
    ("a state apart at the end", "converges", without(END, replace(END, states={"a": 77, "b": 1}))),
    ("no leader at the end", "converges", without(END, replace(END, leader=None))),
    (
        "an acknowledged write missing at the end",
        "converges",
        without(END, Ended("b", {"a": 2, "b": 2}, {"a": 1, "b": 1})),
    ),
]


def test_a_good_history_breaks_nothing() -> None:
    assert broken(GOOD) == set()


def test_a_leader_of_an_older_term_than_the_commit_needs_not_hold_it() -> None:
    late = Led("c", 2, 1, (0, 1))
    assert "leader completeness" not in broken([Committed("a", 3, 1, b"x", 3), late])


def test_a_wiped_node_may_vote_anew() -> None:
    votes = [Voted("c", 2, "a"), Voted("c", 2, "b")]
    assert broken(votes) == {"one vote a term"}
    assert broken([votes[0], Wiped("c"), votes[1]]) == set()


def test_what_only_its_writer_knew_may_be_written_anew_after_a_power_loss() -> None:
    entries = [Appended("a", 2, 2, 0, b"x"), Appended("a", 2, 2, 0, b"y")]
    assert broken([entries[0], Forgot("a", 1), entries[1]]) == set()
    assert broken([entries[0], Appended("b", 2, 2, 0, b"x"), Forgot("a", 1), entries[1]])
    assert broken([entries[0], Forgot("a", 2), entries[1]])


@pytest.mark.parametrize(
    ("invariant", "history"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS]
)
def test_a_mutated_history_is_found(invariant: str, history: list[Event]) -> None:
    assert invariant in broken(history)


def test_every_checker_has_a_mutation() -> None:
    assert {checker.name for checker in all_checkers()} == {m[1] for m in MUTATIONS}
