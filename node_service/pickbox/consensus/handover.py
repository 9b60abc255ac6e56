"""Handing leadership over, with an answer that says what happened: Ongaro's thesis, 3.10."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pickbox.consensus.messages import TimeoutNow
from pickbox.consensus.proposals import Fate, Outcome, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.appending import Appending
    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.messages import Message
    from pickbox.consensus.proposals import Callback

log = logging.getLogger(__name__)


class HandoverCore(Protocol):
    """What handing over needs of the core."""

    @property
    def node_id(self) -> str: ...
    @property
    def leads(self) -> bool: ...
    @property
    def leader_id(self) -> str | None: ...
    @property
    def term(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    def now(self) -> float: ...
    def is_connected(self, node_id: str) -> bool: ...
    def send(self, node_id: str, message: Message) -> bool: ...
    def post(self, call: Callable[[], None]) -> None: ...


@dataclass(slots=True)
class _Pending:
    target: str
    deadline: float
    callback: Callback
    asked: bool = False


class Handover:
    """One transfer at a time. While it is under way the leader takes no proposals in."""

    def __init__(self, core: HandoverCore, appending: Appending) -> None:
        self._core = core
        self._appending = appending
        self._pending: _Pending | None = None

    def transfer(self, target: str | None, seconds: float, callback: Callback) -> None:
        """Have `target`, or the most caught-up voter, take over within `seconds`. Any thread.

        The callback hears exactly once: committed, with the new leader's id as the value, if
        another node leads now; not appended, with the reason, if this one does still.
        """
        self._core.post(lambda: self._begin(target, seconds, callback))

    @property
    def under_way(self) -> bool:
        return self._pending is not None

    def _begin(self, target: str | None, seconds: float, callback: Callback) -> None:
        refusal, chosen = self._choose(target)
        if refusal:
            answer(callback, Outcome(Fate.NOT_APPENDED, reason=refusal))
            return
        self._pending = _Pending(chosen, self._core.now() + seconds, callback)
        log.info("leadership_transfer_started", extra={"fields": {"target": chosen}})

    def _choose(self, target: str | None) -> tuple[str, str]:
        """Why there can be no transfer, or the node to hand over to."""
        core = self._core
        if not core.leads:
            return "this node does not lead", ""
        if self._pending is not None:
            return "another transfer is under way", ""
        candidates = [
            (peer.match_index, node_id)
            for node_id, peer in self._appending.peers.items()
            if node_id in core.configuration.voters and core.is_connected(node_id)
        ]
        if target is None:
            return ("", max(candidates)[1]) if candidates else ("no other voter is connected", "")
        if target not in [node_id for _, node_id in candidates]:
            return f"{target} is not a connected voter other than the leader", ""
        return "", target

    def tick(self) -> None:
        """Ask the target once it has everything; say what has come of it."""
        pending, core = self._pending, self._core
        if pending is None:
            return
        if not core.leads:
            if core.leader_id is not None:
                self._end(Outcome(Fate.COMMITTED, value=core.leader_id))
            elif core.now() >= pending.deadline:
                self._end(Outcome(Fate.UNKNOWN, reason="no new leader was heard of in time"))
            return
        if core.now() >= pending.deadline:
            self._end(Outcome(Fate.NOT_APPENDED, reason=f"{pending.target} did not take over"))
            return
        peer = self._appending.peers.get(pending.target)
        if peer is not None and peer.match_index == core.last_index and not pending.asked:
            pending.asked = core.send(pending.target, TimeoutNow(core.term))

    def _end(self, outcome: Outcome) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            log.info("leadership_transfer_ended", extra={"fields": {"fate": outcome.fate.value}})
            answer(pending.callback, outcome)

    def close(self, reason: str) -> None:
        """The node stops."""
        self._end(Outcome(Fate.UNKNOWN, reason=reason))
