"""From changes to committed entries: batches, the way to the leader, retries under one id.

One command of this node is under way at a time; what arrives meanwhile goes into the next one. So a
burst needs few log entries, and the order in which a node's changes were proposed is kept.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
import uuid
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.changes import Receipt, Submission
from pickbox.codec import encode_command
from pickbox.errors import NoLeader, OutcomeUnknown
from pickbox.failpoints import failpoint
from pickbox.levels import LEVEL
from pickbox.replication import trail
from pickbox.replication.admission import refuse_too_new
from pickbox.replication.repeats import Repeats
from pickbox.replication.transfer import needs_staging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pickbox.changes import Change, Put
    from pickbox.errors import PickboxError
    from pickbox.replication.transfer import Stager
    from pickbox.seams import Consensus, LeaderForwarder

log = logging.getLogger(__name__)

MAX_COMMAND_BYTES: Final = 512 * 1024
"""Bytes of changes in one command; twice this is what the log sends in one piece."""

MAX_SUBMISSIONS: Final = 256
_TRY_SECONDS: Final = 2.0
"""How long one try may take: a leader that was stopped keeps the change from its successor."""
_LEADERLESS_PAUSE: Final = 0.05
TO_ANSWER: Final = 0.5
"""How long those who wait may take to be told, once they are given up."""


class ProposerMetrics(Protocol):
    """What proposing counts."""

    def committed(self, seconds: float) -> None: ...

    def batched(self, changes: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...


@dataclass(slots=True)
class _Pending:
    submission: Submission
    deadline: float
    answer: Future[Receipt] = field(default_factory=Future)
    sent: bool = False

    @property
    def size(self) -> int:
        return sum(change.bytes_in_command for change in self.submission.changes)


class Proposer:
    """Implements `pickbox.seams.ChangeProposer` on top of the log and the way to its leader.

    Args:
        level: the level that the cluster is at, as far as this node has applied it.
    """

    def __init__(
        self,
        node_id: str,
        consensus: Consensus,
        forwarder: LeaderForwarder,
        stager: Stager,
        metrics: ProposerMetrics,
        level: Callable[[], int] = lambda: LEVEL,
    ) -> None:
        self._level = level
        self._node_id = node_id
        self._consensus = consensus
        self._forwarder = forwarder
        self._stager = stager
        self._metrics = metrics
        self._queue: queue.Queue[_Pending | None] = queue.Queue(maxsize=10_000)
        self._repeats = Repeats()
        self._until = math.inf
        self._thread = threading.Thread(target=self._run, name="proposer", daemon=True)

    def start(self) -> None:
        """Start committing what is proposed."""
        self._thread.start()

    def give_up_in(self, seconds: float) -> None:
        """Commit for at most that long; who waits then, or comes later, is told that it is late."""
        self._until = min(self._until, time.monotonic() + seconds)

    def stop(self, seconds: float) -> None:
        """Commit what is queued, for at most that long, and end."""
        self.give_up_in(seconds)
        self._queue.put(None)
        self._thread.join(seconds + TO_ANSWER)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def queued(self) -> int:
        """How many submissions wait."""
        return self._queue.qsize()

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        """Commit `changes` in one submission; return once this node has applied them."""
        refuse_too_new(changes, self._level())
        started = time.monotonic()
        submission = Submission(
            request_id or uuid.uuid4().hex,
            self._node_id,
            time.time_ns() // 1_000_000,
            tuple(changes),
        )
        pending = _Pending(submission, started + timeout)
        trail.proposed(submission)
        try:
            self._queue.put(pending, timeout=timeout)
            receipt = pending.answer.result(timeout)
        except (queue.Full, FutureTimeoutError):
            raise self._late(pending) from None
        self._metrics.committed(time.monotonic() - started)
        self._consensus.wait_applied(receipt.index, max(0.0, pending.deadline - time.monotonic()))
        return receipt

    def stage(self, put: Put, *, timeout: float) -> Put:
        """Make the content of `put` durable on a majority; return it with its holders."""
        return self.stage_all([put], timeout=timeout)[0]

    def stage_all(self, puts: Sequence[Put], *, timeout: float) -> list[Put]:
        """`stage` for several at once."""
        if not any(needs_staging(put) for put in puts):
            return list(puts)
        holders = self._stager.stage(puts, timeout)
        return [
            replace(put, holders=holders[put.digest]) if needs_staging(put) else put for put in puts
        ]

    def _late(self, pending: _Pending) -> NoLeader | OutcomeUnknown:
        request_id = pending.submission.request_id
        if pending.sent:
            self._metrics.replication_error("outcome_unknown")
            return OutcomeUnknown(
                f"the change may still be committed: ask for request {request_id}, or send it "
                "again under the same id",
                field=request_id,
            )
        self._metrics.replication_error("no_leader")
        return NoLeader("no leader could be reached in time; nothing was changed. Try again")

    def _run(self) -> None:
        carried: _Pending | None = None
        while True:
            first = carried or self._queue.get()
            if first is None:
                return
            batch, carried, last = self._gather(first)
            try:
                self._commit(batch)
            except Exception as error:  # whatever it was, the next batch gets its turn
                log.exception("batch_failed", extra={"fields": {"submissions": len(batch)}})
                _refuse(batch, error)
            if last:
                return

    def _gather(self, first: _Pending) -> tuple[list[_Pending], _Pending | None, bool]:
        """What fits in one command: the batch, what did not fit, and whether to stop after it."""
        batch, size = [first], first.size
        while len(batch) < MAX_SUBMISSIONS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, None, True
            if size + item.size > MAX_COMMAND_BYTES:
                return batch, item, False
            batch.append(item)
            size += item.size
        return batch, None, False

    def _commit(self, batch: list[_Pending]) -> None:
        """Try until the log answers for everyone whose deadline has not passed."""
        while time.monotonic() < self._until:
            batch = [item for item in batch if time.monotonic() < item.deadline]
            if not batch:
                return
            leader = self._consensus.status().leader
            if leader is None:
                time.sleep(_LEADERLESS_PAUSE)
                continue
            try:
                receipts = self._send(leader, batch)
            except NoLeader as error:
                self._tell("proposal_found_no_leader", error)
                time.sleep(_LEADERLESS_PAUSE)
            except OutcomeUnknown as error:
                self._tell("proposal_outcome_unknown", error)
                time.sleep(_LEADERLESS_PAUSE)
            else:
                failpoint("propose_after")
                self._metrics.batched(sum(len(item.submission.changes) for item in batch))
                answers = {receipt.request_id: receipt for receipt in receipts}
                batch = [item for item in batch if not _answer(item, answers)]
                if batch:  # the state machine could not read the command
                    time.sleep(_LEADERLESS_PAUSE)
        for item in batch:
            if not item.answer.done():
                item.answer.set_exception(self._late(item))

    def _tell(self, event: str, error: PickboxError) -> None:
        if times := self._repeats.to_tell(event):
            log.info(event, extra={"fields": {"why": error.detail, "times": times}})

    def _send(self, leader: str, batch: list[_Pending]) -> list[Receipt]:
        command = encode_command([item.submission for item in batch])
        failpoint("propose_before")
        remaining = min(self._until, max(item.deadline for item in batch)) - time.monotonic()
        timeout = min(_TRY_SECONDS, max(0.1, remaining))
        unsent = [item for item in batch if not item.sent]
        for item in unsent:
            item.sent = True  # also while nobody has answered: a caller may give up meanwhile
        if leader == self._node_id:
            return self._consensus.propose(command, timeout)
        try:
            return self._forwarder.forward(leader, command, timeout)
        except NoLeader:
            for item in unsent:
                item.sent = False
            raise


def _refuse(batch: list[_Pending], error: Exception) -> None:
    for item in batch:
        if not item.answer.done():
            item.answer.set_exception(OutcomeUnknown(f"the change could not be proposed: {error}"))


def _answer(item: _Pending, answers: dict[str, Receipt]) -> bool:
    receipt = answers.get(item.submission.request_id)
    if receipt is not None and not item.answer.done():
        item.answer.set_result(receipt)
    return receipt is not None
