"""A checker that finds nothing proves nothing: each finds what is seeded into good histories."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from faults.history import Kind, Operation, Outcome
from faults.linearizability import MAX_OPERATIONS, is_linearizable
from faults.witness import violations

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(12)


A, B = "g.a", "g.b"
"""The paths of one group."""


def good_history(rng: random.Random, lost: float = 0.05, clients: int = 6) -> list[Operation]:
    """What clients of two registers with one moment for each operation are told; a few are not."""
    free = [0.0] * clients
    moments = []
    for _ in range(150):
        client = min(range(clients), key=free.__getitem__)
        called = free[client] + rng.random()
        moment = called + rng.random()
        free[client] = moment + rng.random()
        moments.append((moment, called, free[client], client))
    registers = _Registers(rng, lost)
    return [
        registers.operation(index, client, called, returned)
        for index, (_, called, returned, client) in enumerate(sorted(moments), start=1)
    ]


class _Registers:
    """Path -> what is there and its version; operations on them are drawn."""

    def __init__(self, rng: random.Random, lost: float) -> None:
        self._rng = rng
        self._lost = lost
        self._state: dict[str, tuple[str | None, int]] = {A: (None, 0), B: (None, 0)}

    def operation(self, index: int, client: int, called: float, returned: float) -> Operation:
        path, drawn = self._rng.choice((A, B)), self._rng.random()
        token, version = self._state[path]
        if drawn < 0.5:
            return Operation(client, "get", path, token, called, returned, version=version)
        if drawn < 0.55:
            new, other = f"refused{index}", f"not {token}"
            return Operation(client, "put", path, new, called, returned, "refused", True, other)
        unheard = self._rng.random() < self._lost
        outcome: Outcome = "unknown" if unheard else "done"
        returned, told = (math.inf, 0) if unheard else (returned, index)
        if drawn < 0.6:
            self._state[path] = None, 0
            return Operation(client, "delete", path, None, called, returned, outcome, index=told)
        if drawn < 0.7 and token is not None:
            return self._move(
                path,
                index,
                Operation(
                    client,
                    "move",
                    path,
                    token,
                    called,
                    returned,
                    outcome,
                    True,
                    token,
                    told,
                    told,
                    B if path == A else A,
                ),
            )
        conditional = drawn < 0.8
        expected = token if conditional else None
        self._state[path] = f"t{index}", index
        return Operation(
            client,
            "put",
            path,
            f"t{index}",
            called,
            returned,
            outcome,
            conditional,
            expected,
            told,
            told,
        )

    def _move(self, path: str, index: int, move: Operation) -> Operation:
        if self._state[move.destination][0] is not None:
            returned = move.returned if move.index else move.called + 1
            return replace(move, outcome="refused", returned=returned, index=0, version=0)
        self._state[move.destination] = move.token, index
        self._state[path] = None, 0
        return move


def _reads_after_a_put(history: list[Operation]) -> list[int]:
    """Reads called after the last put before them was acknowledged; more puts before that."""
    found = []
    for number, read in enumerate(history):
        before = [o for o in history[:number] if o.writes and read.path in o.paths]
        puts = [o for o in before if o.kind == "put"]
        if read.kind != "get" or len(puts) < 2 or before[-1] is not puts[-1]:
            continue
        if puts[0].returned < puts[-1].called and puts[-1].returned < read.called:
            found.append(number)
    return found


def stale_read(history: list[Operation], rng: random.Random) -> None:
    """A read finds what an acknowledged write has replaced."""
    number = rng.choice(_reads_after_a_put(history))
    path = history[number].path
    old = next(o for o in history[:number] if o.kind == "put" and o.writes and o.path == path)
    history[number] = replace(history[number], token=old.token, version=old.version)


def lost_write(history: list[Operation], rng: random.Random) -> None:
    """An acknowledged put is gone: a read finds nothing, and no delete explains it."""
    _go_on(history, ("put", "mine", 900), ("get", None, 0))


def duplicate_apply(history: list[Operation], rng: random.Random) -> None:
    """A put happens a second time, on top of another that was acknowledged in between."""
    _go_on(history, ("put", "once", 900), ("put", "between", 901), ("get", "once", 902))


def reordered_write(history: list[Operation], rng: random.Random) -> None:
    """Two puts, one after the other, took effect in the other order."""
    _go_on(history, ("put", "first", 901), ("put", "second", 900), ("get", "first", 901))


def resurrected_delete(history: list[Operation], rng: random.Random) -> None:
    """What an acknowledged delete removed is there again."""
    _go_on(history, ("put", "mine", 900), ("delete", None, 901), ("get", "mine", 900))


def moved_and_still_there(history: list[Operation], rng: random.Random) -> None:
    """What an acknowledged move took away is still at its source."""
    _go_on(history, ("delete", None, 899), ("put", "mine", 900))
    _move(history, "mine", 901)
    _go_on(history, ("get", "mine", 900))


def moved_into_nothing(history: list[Operation], rng: random.Random) -> None:
    """What an acknowledged move took along did not arrive."""
    _go_on(history, ("put", "mine", 900))
    _move(history, "mine", 901)
    now = max(o.returned for o in history) + 1
    history.append(Operation(9, "get", B, None, now, now + 1))


def _move(history: list[Operation], token: str, index: int) -> None:
    """Make the destination free, and move what was just put there."""
    now = max(o.returned for o in history) + 1
    history.append(Operation(9, "delete", B, None, now, now + 1, index=index))
    history.append(
        Operation(
            9, "move", A, token, now + 2, now + 3, "done", True, token, index + 1, index + 1, B
        )
    )


def _go_on(history: list[Operation], *more: tuple[Kind, str | None, int]) -> None:
    """Add operations (kind, token, index), one after the other, to the end of a history."""
    now = max(o.returned for o in history)
    for number, (kind, token, index) in enumerate(more):
        called = now + 2 * number + 1
        version = 0 if kind == "delete" else index
        index = 0 if kind == "get" else index  # noqa: PLW2901  # reads name none
        history.append(
            Operation(9, kind, A, token, called, called + 1, index=index, version=version)
        )


MUTATIONS = [
    stale_read,
    lost_write,
    duplicate_apply,
    reordered_write,
    resurrected_delete,
    moved_and_still_there,
    moved_into_nothing,
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_history_passes_both_checks(seed: int) -> None:
    history = good_history(random.Random(seed))
    assert is_linearizable(history)
    assert violations(history) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_both_checks_find_a_mutation(
    mutate: Callable[[list[Operation], random.Random], None], seed: int
) -> None:
    rng = random.Random(seed)
    history = good_history(rng, lost=0.0)
    assert is_linearizable(history)
    mutate(history, rng)
    assert not is_linearizable(history)
    assert violations(history)


def test_a_write_of_unknown_outcome_may_take_effect_at_any_later_moment_or_never() -> None:
    put = Operation(1, "put", "a", "maybe", 0.0, math.inf, "unknown")
    absent = Operation(2, "get", "a", None, 1.0, 2.0)
    there = Operation(2, "get", "a", "maybe", 3.0, 4.0, version=7)
    gone = Operation(2, "get", "a", None, 5.0, 6.0)
    assert is_linearizable([put, absent])
    assert is_linearizable([put, absent, there])
    assert violations([put, absent, there]) == []
    assert not is_linearizable([put, absent, there, gone])


def test_a_refused_condition_must_not_have_held() -> None:
    put = Operation(1, "put", "a", "one", 0.0, 1.0, index=1, version=1)
    refused = Operation(2, "put", "a", "two", 2.0, 3.0, "refused", True, "one")
    assert not is_linearizable([put, refused])
    assert is_linearizable([put, replace(refused, expected="other")])


def test_what_was_moved_away_and_back_is_not_what_was_expected_before() -> None:
    """Its content is the same, and its version is another."""
    put = Operation(1, "put", A, "one", 0.0, 1.0, index=1, version=1)
    back = Operation(1, "move", B, "one", 5.0, 6.0, "done", True, "one", 5, 5, A, 3)
    history = [put, move(3.0, "one"), back]
    refused = Operation(2, "put", A, "two", 7.0, 8.0, "refused", True, "one", expected_version=1)
    done = replace(refused, outcome="done", index=7, version=7)
    assert is_linearizable([*history, refused])
    assert not is_linearizable([*history, done])
    assert is_linearizable([*history, replace(done, expected_version=5)])
    assert not is_linearizable([*history, replace(refused, expected_version=5)])


def test_a_delete_that_found_nothing_must_have_had_nothing_to_find() -> None:
    put = Operation(1, "put", "a", "one", 0.0, 1.0, index=1, version=1)
    missed = Operation(2, "delete", "a", None, 2.0, 3.0, "refused")
    assert not is_linearizable([put, missed])
    assert violations([put, missed])
    early = replace(missed, called=0.0)
    assert is_linearizable([put, early])
    assert violations([put, early]) == []


def test_a_refused_write_must_never_be_found() -> None:
    refused = Operation(2, "put", "a", "two", 2.0, 3.0, "refused", True, "one")
    found = Operation(2, "get", "a", "two", 4.0, 5.0, version=1)
    assert not is_linearizable([refused, found])
    assert violations([refused, found])


def test_reads_that_go_backwards_are_found() -> None:
    """Also where the newer content is of a write whose outcome nobody knows."""
    history = [
        Operation(1, "put", "a", "old", 0.0, 1.0, index=1, version=1),
        Operation(1, "put", "a", "new", 2.0, math.inf, "unknown"),
        Operation(2, "get", "a", "new", 3.0, 4.0, version=2),
        Operation(2, "get", "a", "old", 5.0, 6.0, version=1),
    ]
    assert not is_linearizable(history)
    assert violations(history)


def move(called: float, token: str, outcome: Outcome = "done") -> Operation:
    """A move of what is expected at A to B, answered within a second."""
    index = int(called) if outcome == "done" else 0
    returned = math.inf if outcome == "unknown" else called + 1
    return Operation(1, "move", A, token, called, returned, outcome, True, token, index, index, B)


def test_a_move_takes_content_along() -> None:
    put = Operation(1, "put", A, "mine", 1.0, 2.0, index=1, version=1)
    there = Operation(2, "get", B, "mine", 5.0, 6.0, version=3)
    gone = Operation(2, "get", A, None, 5.0, 6.0)
    assert is_linearizable([put, move(3.0, "mine"), there, gone])
    assert violations([put, move(3.0, "mine"), there, gone]) == []


def test_a_move_onto_something_must_have_been_refused() -> None:
    put = Operation(1, "put", A, "mine", 1.0, 2.0, index=1, version=1)
    other = Operation(1, "put", B, "other", 1.0, 2.0, index=2, version=2)
    assert is_linearizable([put, other, move(3.0, "mine", "refused")])
    assert not is_linearizable([put, other, move(3.0, "mine")])


def test_a_move_of_unknown_outcome_happened_or_did_not_and_never_by_half() -> None:
    put = Operation(1, "put", A, "mine", 1.0, 2.0, index=1, version=1)
    history = [put, move(3.0, "mine", "unknown")]
    gone = Operation(2, "get", A, None, 5.0, 6.0)
    there = Operation(2, "get", B, "mine", 7.0, 8.0, version=3)
    nowhere = Operation(2, "get", B, None, 7.0, 8.0)
    assert is_linearizable([*history, gone, there])
    assert violations([*history, gone, there]) == []
    assert not is_linearizable([*history, gone, nowhere])


def test_a_history_too_long_to_search_is_refused() -> None:
    get = Operation(1, "get", "a", None, 0.0, 1.0)
    with pytest.raises(ValueError, match="at most 200"):
        is_linearizable([get] * (MAX_OPERATIONS + 1))


def test_a_put_and_a_delete_may_share_one_log_entry() -> None:
    history = [
        Operation(1, "put", "a", "short", 0.0, 2.0, index=5, version=3),
        Operation(2, "delete", "a", None, 1.0, 2.0, index=5),
        Operation(3, "get", "a", None, 3.0, 4.0),
    ]
    assert is_linearizable(history)
    assert violations(history) == []
