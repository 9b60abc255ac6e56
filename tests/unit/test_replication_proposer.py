"""From changes to committed entries: batches, retries, deadlines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from watcher_node import wait_until

from pickbox.changes import Delete, Outcome, Receipt, Status, Submission
from pickbox.codec import decode_command
from pickbox.errors import NoLeader, OutcomeUnknown
from pickbox.replication.proposer import Proposer
from pickbox.replication.transfer import Stager
from pickbox.seams import ConsensusStatus

if TYPE_CHECKING:
    from pickbox.members import Member

Behaviour = Callable[[list[Submission]], list[Receipt]]


class Log:
    """A log of one node whose behaviour a test decides; also the way to another leader."""

    def __init__(self) -> None:
        self.leader: str | None = "node1"
        self.commands: list[list[Submission]] = []
        self.behaviours: list[Behaviour] = []
        self.index = 1

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        submissions = decode_command(command)
        self.commands.append(submissions)
        if self.behaviours:
            return self.behaviours.pop(0)(submissions)
        return self.commit(submissions)

    def forward(self, leader: str, command: bytes, timeout: float) -> list[Receipt]:
        assert leader == "node2"
        return self.propose(command, timeout)

    def commit(self, submissions: list[Submission]) -> list[Receipt]:
        self.index += 1
        applied = Outcome(Status.APPLIED, self.index, b"p")
        return [
            Receipt(s.request_id, self.index, tuple(applied for _ in s.changes))
            for s in submissions
        ]

    def status(self) -> ConsensusStatus:
        return ConsensusStatus("leader", self.leader, 1, 1, 1, 1, 0, True, {}, (), 0.0)

    def wait_applied(self, index: int, timeout: float) -> bool:
        return True

    def barrier(self, timeout: float) -> int:
        return self.index

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def members(self) -> tuple[Member, ...]:
        return ()

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        return "node1"


class Counts:
    def committed(self, seconds: float) -> None: ...

    def batched(self, changes: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def proposer(log: Log) -> Iterator[Proposer]:
    proposer = Proposer("node1", log, log, Stager("node1", 1, {}, None), Counts())
    proposer.start()
    yield proposer
    proposer.stop(2.0)


def test_a_change_is_answered_with_its_outcome(proposer: Proposer) -> None:
    receipt = proposer.propose([Delete(b"p")], timeout=5.0)
    assert receipt.outcomes[0].status is Status.APPLIED


def test_what_arrives_while_a_command_is_under_way_goes_into_the_next(
    proposer: Proposer, log: Log
) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(submissions: list[Submission]) -> list[Receipt]:
        entered.set()
        assert go.wait(5.0)
        return log.commit(submissions)

    log.behaviours.append(slow)
    threads = [
        threading.Thread(target=proposer.propose, args=([Delete(b"p")],), kwargs={"timeout": 5.0})
        for _ in range(21)
    ]
    threads[0].start()
    assert entered.wait(5.0)
    for thread in threads[1:]:
        thread.start()
    while proposer.queued < 20:
        pass
    go.set()
    for thread in threads:
        thread.join(5.0)
    assert [len(command) for command in log.commands] == [1, 20]


@pytest.mark.parametrize("error", [NoLeader("gone"), OutcomeUnknown("lost")])
def test_a_failed_try_is_repeated_under_the_same_id(
    proposer: Proposer, log: Log, error: Exception
) -> None:
    def fail(_: list[Submission]) -> list[Receipt]:
        raise error

    log.behaviours += [fail, fail]
    receipt = proposer.propose([Delete(b"p")], request_id="mine", timeout=5.0)
    assert receipt.request_id == "mine"
    assert [command[0].request_id for command in log.commands] == ["mine"] * 3


def test_a_follower_forwards_to_the_leader(proposer: Proposer, log: Log) -> None:
    log.leader = "node2"
    assert proposer.propose([Delete(b"p")], timeout=5.0).outcomes


def test_without_a_leader_nothing_is_sent_and_the_error_says_so(
    proposer: Proposer, log: Log
) -> None:
    log.leader = None
    with pytest.raises(NoLeader, match="nothing was changed"):
        proposer.propose([Delete(b"p")], timeout=0.3)
    assert log.commands == []


def test_a_change_that_may_be_committed_is_never_called_unchanged(
    proposer: Proposer, log: Log
) -> None:
    def lose_the_answer(_: list[Submission]) -> list[Receipt]:
        log.leader = None
        raise OutcomeUnknown("the connection broke")

    log.behaviours.append(lose_the_answer)
    with pytest.raises(OutcomeUnknown, match="ask for request known-id"):
        proposer.propose([Delete(b"p")], request_id="known-id", timeout=2.0)


def test_who_waits_for_a_leader_at_a_stop_is_told_that_nothing_was_changed(
    proposer: Proposer, log: Log
) -> None:
    log.leader = None
    with ThreadPoolExecutor(2) as callers:
        waiting = [callers.submit(proposer.propose, [Delete(b"p")], timeout=60.0) for _ in "12"]
        wait_until(lambda: proposer._queue.unfinished_tasks == 2)
        proposer.stop(0.3)
        for answer in waiting:
            with pytest.raises(NoLeader, match="nothing was changed"):
                answer.result(10.0)


def test_an_expired_change_does_not_hold_up_the_next(proposer: Proposer, log: Log) -> None:
    log.leader = None
    with pytest.raises(NoLeader):
        proposer.propose([Delete(b"old")], timeout=0.2)
    log.leader = "node1"
    assert proposer.propose([Delete(b"new")], timeout=5.0).outcomes


def test_a_change_that_cannot_be_written_down_does_not_stop_the_proposer(
    proposer: Proposer,
) -> None:
    beyond_64_bits = Delete(b"p", base=1 << 64)
    with pytest.raises(OutcomeUnknown, match="could not be proposed"):
        proposer.propose([beyond_64_bits], timeout=5.0)
    assert proposer.alive()
    assert proposer.propose([Delete(b"p")], timeout=5.0).outcomes


def test_a_change_that_is_on_its_way_to_the_leader_is_never_called_unchanged(
    proposer: Proposer, log: Log
) -> None:
    """The caller's patience ends before the leader's answer comes."""
    log.leader = "node2"
    given_up = threading.Event()

    def answer_late(submissions: list[Submission]) -> list[Receipt]:
        assert given_up.wait(5.0)
        return log.commit(submissions)

    log.behaviours.append(answer_late)
    with pytest.raises(OutcomeUnknown, match="ask for request known-id"):
        proposer.propose([Delete(b"p")], request_id="known-id", timeout=2.0)
    given_up.set()


def test_a_change_that_no_leader_took_is_called_unchanged(proposer: Proposer, log: Log) -> None:
    log.leader = "node2"

    def refuse(_: list[Submission]) -> list[Receipt]:
        log.leader = None
        raise NoLeader("node2 does not lead")

    log.behaviours.append(refuse)
    with pytest.raises(NoLeader, match="nothing was changed"):
        proposer.propose([Delete(b"p")], timeout=0.3)


def test_a_leader_that_stays_away_is_told_once_in_a_while(
    proposer: Proposer, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.leader = "node2"

    def refuse(_: list[Submission]) -> list[Receipt]:
        raise NoLeader("node2 cannot be reached")

    log.behaviours += [refuse] * 5
    with caplog.at_level(logging.INFO):
        proposer.propose([Delete(b"p")], timeout=5.0)
    told = [r for r in caplog.records if r.getMessage() == "proposal_found_no_leader"]
    assert len(told) == 1
