"""What nodes say of themselves is judged, and what they take."""

from __future__ import annotations

import pytest

from faults import invariants
from faults.invariants import echoes, logged
from faults.observer import FILES, MEMORY_BYTES, THREADS, Leadership, Resources


def look(role: str, term: int, applied: int) -> dict[str, object]:
    return {"role": role, "term": term, "applied_index": applied}


def test_leaders_of_different_terms_are_well() -> None:
    judge = Leadership()
    judge.see("node1", look("leader", 3, 10))
    judge.see("node2", look("leader", 4, 12))
    judge.see("node1", look("follower", 4, 12))
    assert judge.wrong == []


@pytest.mark.parametrize(
    ("node", "status", "sentence"),
    [
        ("node2", look("leader", 3, 10), "two leaders"),
        ("node1", look("follower", 2, 10), "term went back"),
        ("node1", look("follower", 3, 9), "applied_index went back"),
    ],
)
def test_what_raft_forbids_is_found(node: str, status: dict[str, object], sentence: str) -> None:
    judge = Leadership()
    judge.see("node1", look("leader", 3, 10))
    judge.see(node, status)
    assert any(sentence in found for found in judge.wrong)


def test_a_loss_of_power_takes_back_what_was_applied_and_no_term() -> None:
    judge = Leadership()
    judge.see("node1", look("leader", 3, 10))
    judge.see("node1", look("follower", 3, 5), power_cuts=1)
    assert judge.wrong == []
    judge.see("node1", look("follower", 3, 4), power_cuts=1)
    judge.see("node1", look("follower", 2, 4), power_cuts=2)
    assert len(judge.wrong) == 2


@pytest.mark.parametrize("what", ["memory_bytes", "files", "threads"])
def test_what_grows_beyond_its_bound_is_found_once(what: str) -> None:
    bounds = {"memory_bytes": MEMORY_BYTES, "files": FILES, "threads": THREADS}
    judge = Resources()
    judge.see("node1", **bounds)
    assert judge.wrong == []
    judge.see("node1", **(bounds | {what: bounds[what] + 1}))
    judge.see("node1", **(bounds | {what: bounds[what] + 2}))
    assert [f"{bounds[what] + 1} {what}" in found for found in judge.wrong] == [True]
    assert judge.highest[what] == bounds[what] + 2


def event(name: str, error: str = "") -> dict[str, object]:
    told: dict[str, object] = {"event": name, "level": "error"}
    if error:
        told["exc_info"] = f"Traceback (most recent call last):\n  …\n{error}"
    return told


@pytest.mark.parametrize(
    "told",
    [
        event("started"),
        event("request_failed", "OSError: [Errno 5] Input/output error"),
        event("placing_failed", "OSError: [Errno 28] No space left on device: b'/x'"),
        event("round_failed", "sqlite3.OperationalError: database or disk is full"),
    ],
)
def test_what_a_disk_does_is_an_excuse(told: dict[str, object]) -> None:
    assert list(logged([told])) == []


@pytest.mark.parametrize(
    "told",
    [
        event("request_failed", "KeyError: 'x'"),
        event("request_failed", "OSError: [Errno 9] Bad file descriptor"),
        event("tick_failed"),
        event("unstructured"),
    ],
)
def test_nothing_else_is(told: dict[str, object]) -> None:
    assert len(list(logged([told]))) == 1


class Told:
    """A node that says these of itself, one look after the other: leader, term, last entry."""

    def __init__(self, node_id: str, *looks: tuple[str | None, int, int]) -> None:
        self.node_id = node_id
        self._looks = list(looks)

    def status(self) -> dict[str, object]:
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return dict(zip(("leader", "term", "last_index"), look, strict=True))


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "_QUIET_SECONDS", 0.0)


OLD, ELECTING, NEW = ("node1", 3, 10), (None, 4, 10), ("node2", 4, 11)


def test_what_nobody_wrote_is_found(no_pause: None) -> None:
    nodes = [Told("node1", NEW), Told("node2", NEW, ("node2", 4, 12))]
    assert list(echoes(nodes)) == ["node2 goes on from entry 11 with nobody writing"]


@pytest.mark.parametrize(
    "looks",
    [(OLD, NEW), (ELECTING, NEW), (("node2", 4, 10), NEW)],
    ids=["after the first look", "before it", "and the other has not heard of it"],
)
def test_the_entry_of_a_new_leader_is_no_echo(
    no_pause: None, looks: tuple[tuple[str | None, int, int], ...]
) -> None:
    leader = Told("node2", *(look for look in looks if look != ("node2", 4, 10)))
    assert list(echoes([Told("node1", *looks), leader])) == []
