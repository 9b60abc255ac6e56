"""`RaftConsensus`: the seam `pickbox.seams.Consensus` over the safe core.

All of the core runs on one thread of ours, the tick thread. It is supervised: if it dies, the node
hears of it (`on_fatal`) and stops serving.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.consensus.assembly import Assembled, LogUnusable, assemble
from pickbox.consensus.divergence import note_divergence
from pickbox.consensus.log import LogStopped
from pickbox.consensus.membership import LATER
from pickbox.consensus.messages import MESSAGE_TYPES
from pickbox.consensus.options import Hooks
from pickbox.consensus.picture import members_of, status_of
from pickbox.consensus.proposals import Fate
from pickbox.consensus.transport import TlsTransport, TransportOptions
from pickbox.errors import ChangeRefused, ChangeTooEarly, NoLeader, OutcomeUnknown
from pickbox.members import MemberChange, Members
from pickbox.seams import ConsensusStatus, LogFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pickbox.changes import Receipt
    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.core import SafeSyncObj
    from pickbox.consensus.library import Role
    from pickbox.consensus.log import DurableLog
    from pickbox.consensus.proposals import Callback, Outcome
    from pickbox.consensus.transport import HandOver, TransportCounts
    from pickbox.seams import StateMachine
    from pickbox.settings import Settings
    from pickbox.tls import Credentials

log = logging.getLogger(__name__)

_LONGEST_WAIT: Final = 0.1
_PICTURE_AGE: Final = 0.02
_STALLED: Final = 5.0


class LogMetrics(Protocol):
    """What the log counts, all on the tick thread but `entry_committed` and `snapshot_made`."""

    def log_synced(self, seconds: float, entries: int) -> None: ...

    def ticked(self, seconds: float) -> None: ...

    def entry_committed(self, seconds: float) -> None: ...

    def snapshot_made(self, seconds: float) -> None: ...


class RaftConsensus:
    """The log on this node.

    Args:
        hand_over: takes the HTTP connections that members open on the log's port.
        on_members: called with the members, on the tick thread, when others are in force.
        on_fatal: called once, from the tick thread, when the log cannot go on.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        machine: StateMachine,
        metrics: LogMetrics,
        *,
        hand_over: HandOver | None,
        on_members: Callable[[Members], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._machine = machine
        self._metrics = metrics
        self._hand_over = hand_over
        self._on_members = on_members
        self._on_fatal = on_fatal
        self._applied = threading.Condition()
        self._stopping = threading.Event()
        self._fatal = self._standing = self._turned_away = ""
        self._synced_index = self._told_applied = 0
        self._bytes_at_snapshot = 0
        self._last_tick = time.monotonic()
        self._leader: str | None = None
        self._leader_changes = self._first_commit_index = 0
        self._figures = LogFigures()
        self._members = Members()
        self._assembled: Assembled | None = None
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._thread = threading.Thread(target=self._run, name="raft-tick", daemon=True)
        self._status = ConsensusStatus(
            "follower", None, 0, 0, machine.applied_index, 0, 0, False, {}, (), 0.0
        )
        self._picture_at = 0.0

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the log, bind the port and start the tick thread.

        Raises:
            LogUnusable: what is in the data directory does not fit; the text says what to do.
            OSError: the port is taken, or the disk refuses.
        """
        self._assembled = assembled = assemble(
            self._settings,
            self._machine,
            TlsTransport.with_options(self._transport_options()),
            self._hooks(),
            self._make_aside,
            self._synced,
        )
        self._synced_index = assembled.log.synced_index
        self._first_commit_index = assembled.core.commit_index
        self._take_picture(assembled.core)
        self._thread.start()

    def _transport_options(self) -> TransportOptions:
        return TransportOptions(
            self._credentials,
            self._settings.host,
            self._settings.port,
            MESSAGE_TYPES,
            hand_over=self._hand_over,
            on_turned_away=self._was_turned_away,
        )

    def _hooks(self) -> Hooks:
        return Hooks(
            on_role=self._role_changed,
            on_configuration=self._configuration_changed,
            on_standing=self._standing_changed,
            on_diverged=self._has_diverged,
            on_snapshot=self._snapshot_is_durable,
            on_tick=self._ticked,
        )

    def stop(self) -> None:
        """Stop the tick thread and close the log."""
        self._stopping.set()
        if self._thread.is_alive():
            self._core().wake()
            self._thread.join(timeout=5.0)
        self._aside.shutdown(wait=False, cancel_futures=True)

    def alive(self) -> bool:
        """Whether the tick thread has turned within the last five seconds."""
        return self._thread.is_alive() and time.monotonic() - self._last_tick < _STALLED

    @property
    def trouble(self) -> str:
        """Why the log does not go on here; empty if it does."""
        if self._fatal or self._standing or self._turned_away:
            return self._fatal or self._standing or self._turned_away
        refusal = self._assembled.core.applying.refusal if self._assembled else None
        if refusal is None:
            return ""
        return f"the disk refuses what the log says: {str(refusal) or repr(refusal)}"

    @property
    def standing(self) -> str:
        """Why this node takes part no more (removed, wiped, diverged); empty if it does."""
        return self._standing

    @property
    def outside(self) -> str:
        """Why this node takes no part: its standing, or that a member does not know it."""
        return self._standing or self._turned_away

    # -- the log ----------------------------------------------------------------------------

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        """Commit `command` as the leader; return the state machine's answer."""
        core = self._leading()
        began = time.monotonic()
        outcome = self._ask(lambda answered: core.propose(command, answered), timeout)
        if outcome.fate is Fate.UNKNOWN:
            raise OutcomeUnknown(
                f"it is not known whether the change was committed: {outcome.reason}"
            )
        if outcome.fate is Fate.NOT_APPENDED:
            raise NoLeader(f"the change was not taken in: {outcome.reason}")
        self._metrics.entry_committed(time.monotonic() - began)
        if not isinstance(outcome.value, list):
            raise OutcomeUnknown(f"the state machine answered {outcome.value}")
        return outcome.value

    def barrier(self, timeout: float) -> int:
        """As the leader: an index that covers all that was acknowledged before the call."""
        outcome = self._ask(self._leading().reads.barrier, timeout)
        if outcome.fate is not Fate.COMMITTED:
            raise NoLeader(f"no majority confirmed the read: {outcome.reason}")
        return outcome.index

    def wait_applied(self, index: int, timeout: float) -> bool:
        """Wait until this node has applied log entry `index`."""
        with self._applied:
            return self._applied.wait_for(lambda: self._applied_index() >= index, timeout)

    def members(self) -> Members:
        """Who takes part, as the log on this node says."""
        return self._members

    def change_members(
        self, change: MemberChange, node_id: str, *, address: str, version: int, timeout: float
    ) -> int:
        """As the leader: make one change to the members that `version` names."""
        membership = self._leading().membership
        match change:
            case MemberChange.ADD:
                outcome = self._ask(
                    lambda heard: membership.add_learner(node_id, address, version, heard), timeout
                )
            case MemberChange.PROMOTE:
                outcome = self._ask(lambda c: membership.promote(node_id, version, c), timeout)
            case MemberChange.DEMOTE:
                outcome = self._ask(lambda c: membership.demote(node_id, version, c), timeout)
            case MemberChange.MOVE:
                outcome = self._ask(
                    lambda c: membership.move(node_id, address, version, c), timeout
                )
            case MemberChange.REMOVE:
                outcome = self._ask(lambda c: membership.remove(node_id, version, c), timeout)
        if outcome.fate is Fate.UNKNOWN:
            raise NoLeader(f"it is not known whether the members changed: {outcome.reason}")
        if outcome.fate is Fate.NOT_APPENDED:
            refusal = ChangeTooEarly if outcome.value == LATER else ChangeRefused
            raise refusal(outcome.reason, field="node_id")
        return version + 1

    def status(self) -> ConsensusStatus:
        """The picture that the tick thread took last, a moment ago."""
        return self._status

    def transport_counts(self) -> TransportCounts | None:
        """What went over the links to the peers; None before the start."""
        transport = self._assembled and self._assembled.core.transport
        return transport.counts() if isinstance(transport, TlsTransport) else None

    def figures(self) -> LogFigures:
        """What was counted since the start, a moment ago."""
        return self._figures

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        """Have `target`, or the most caught-up voter, take over; return the new leader's id."""
        handover = self._leading().handover
        outcome = self._ask(lambda heard: handover.transfer(target, timeout, heard), timeout + 1.0)
        if outcome.fate is not Fate.COMMITTED:
            raise NoLeader(
                f"leadership was not handed over within {timeout:g} s: {outcome.reason}. Check "
                "that the other voters are reachable and caught up"
            )
        return str(outcome.value)

    def compact(self) -> int:
        """Have the log compacted into a snapshot soon; return the index it will cover at least."""
        self._core().request_snapshot()
        return self._status.applied_index

    # -- on the tick thread -----------------------------------------------------------------

    def _run(self) -> None:
        core = self._core()
        try:
            while not self._stopping.is_set():
                core.doTick(_LONGEST_WAIT if self._picture_is_current(core) else _PICTURE_AGE)
                self._after_tick(core)
        except LogStopped as error:  # it has said so itself: the disk refuses
            self._fail(f"the log stopped: {error}")
        except Exception as error:
            log.exception("tick_failed")
            self._fail(f"the log stopped: {error}")
        finally:
            core.close()

    def _after_tick(self, core: SafeSyncObj) -> None:
        self._last_tick = now = time.monotonic()
        if core.applying.refusal is not None:
            core.step_aside()  # another node's disk may take what the log says
        if now - self._picture_at > _PICTURE_AGE:
            self._take_picture(core)

    def _take_picture(self, core: SafeSyncObj) -> None:
        """Take the status where nothing of the core moves: between two ticks."""
        self._picture_at = time.monotonic()
        self._status = status_of(core)
        self._figures = LogFigures(
            self._leader_changes,
            core.elections.held,
            core.commit_index - self._first_commit_index,
            self._log().bytes_on_disk,
        )
        if core.leader_id is not None:
            self._turned_away = ""
        self._compact_when_grown(core)

    def _picture_is_current(self, core: SafeSyncObj) -> bool:
        seen = self._status
        return (seen.last_index, seen.commit_index, seen.applied_index) == (
            core.last_index,
            core.commit_index,
            core.applied_index,
        )

    def _ticked(self, seconds: float) -> None:
        """A tick is done, and waits now for what comes: who waited for it must not."""
        self._metrics.ticked(seconds)
        index = self._applied_index()
        if index != self._told_applied:
            self._told_applied = index
            with self._applied:
                self._applied.notify_all()

    def _compact_when_grown(self, core: SafeSyncObj) -> None:
        grown = self._log().bytes_written - self._bytes_at_snapshot
        if grown > self._settings.compact_bytes:
            self._bytes_at_snapshot = self._log().bytes_written
            core.request_snapshot()

    def _role_changed(self, role: Role, term: int, leader: str | None) -> None:
        fields = {"role": role.name.lower(), "term": term, "leader": leader}
        log.info("role_changed", extra={"fields": fields})
        if leader is not None and leader != self._leader:
            self._leader = leader
            self._leader_changes += 1
        self._picture_at = 0.0

    def _configuration_changed(
        self, configuration: Configuration, places: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._members = members_of(configuration, places)
        self._on_members(self._members)

    def _standing_changed(self, reason: str) -> None:
        self._standing = reason

    def _has_diverged(self, index: int) -> None:
        note_divergence(self._settings.data_dir, index)

    def _was_turned_away(self, node_id: str, cause: str) -> None:
        if cause == "not_a_member":
            self._turned_away = (
                f"{node_id} says that this node is not a member: add it to the cluster "
                "(`pickbox members add`), or stop it if it was removed"
            )

    def _snapshot_is_durable(self, index: int) -> None:
        log.info("log_compacted", extra={"fields": {"index": index}})

    def _synced(self, seconds: float) -> None:
        if self._assembled is None:
            return
        index = self._assembled.log.synced_index
        self._metrics.log_synced(seconds, max(0, index - self._synced_index))
        self._synced_index = index

    # -- inside -----------------------------------------------------------------------------

    def _make_aside(self, make: Callable[[], None]) -> None:
        def timed() -> None:
            began = time.monotonic()
            make()
            self._metrics.snapshot_made(time.monotonic() - began)

        self._aside.submit(timed)

    def _ask(self, ask: Callable[[Callback], None], timeout: float) -> Outcome:
        """What the tick thread answers, which it does exactly once.

        Raises:
            OutcomeUnknown: it did not in time.
        """
        answers: list[Outcome] = []
        answered = threading.Event()

        def hear(outcome: Outcome) -> None:
            answers.append(outcome)
            answered.set()

        ask(hear)
        if not answered.wait(timeout):
            raise OutcomeUnknown("the log did not say in time whether it was committed")
        return answers[0]

    def _leading(self) -> SafeSyncObj:
        core = self._core()
        if not core.leads or self._fatal or self._stopping.is_set():
            raise NoLeader(f"{self._settings.node_id} does not lead; {self._status.leader} does")
        return core

    def _core(self) -> SafeSyncObj:
        if self._assembled is None:
            raise NoLeader("the log has not started yet")
        return self._assembled.core

    def _log(self) -> DurableLog:
        assert self._assembled is not None
        return self._assembled.log

    def _applied_index(self) -> int:
        return self._assembled.core.applied_index if self._assembled else 0

    def _fail(self, why: str) -> None:
        if not self._fatal:
            self._fatal = why
            self._on_fatal(why)


__all__ = ["LogMetrics", "LogUnusable", "RaftConsensus"]
