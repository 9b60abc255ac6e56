"""How every peer is: all are asked at once, and none can make the others wait for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from pickbox.replication.peers import PeerError
from pickbox.status import NodeStatus

if TYPE_CHECKING:
    from pickbox.replication.peers import Peer, Peers

_TIMEOUT: Final = 1.0
_PATIENCE: Final = 2.0
"""Seconds: a connection may take `_TIMEOUT` to be made, and the answer as long again."""


class RollCall:
    """Asks the peers how they are. For any thread.

    No timeout of a connection covers the look-up of a name, which takes as long as the machine's
    resolver likes. So each peer is asked in a thread of its own, which nobody waits for when its
    time is over, and is asked anew only when that thread is back: who hangs costs one thread.

    Args:
        patience: seconds that an answer is waited for.
    """

    def __init__(self, peers: Peers, patience: float = _PATIENCE) -> None:
        self._peers = peers
        self._patience = patience
        self._lock = threading.Lock()
        self._questions: dict[Peer, _Question] = {}

    def statuses(self) -> list[NodeStatus]:
        """Each peer's answer, or why there is none."""
        with self._lock:
            self._questions = {peer: self._question(peer) for peer in self._peers}
            questions = self._questions.values()
        return [question.outcome() for question in questions]

    def _question(self, peer: Peer) -> _Question:
        """The one that is under way, which may be overdue, or a new one."""
        question = self._questions.get(peer)
        if question is None or question.answer.done():
            question = _Question(peer, time.monotonic() + self._patience)
            # No pool: the end of the process would wait for a thread of one that hangs.
            name = f"peer-status-{peer.node_id}"
            threading.Thread(target=question.ask, name=name, daemon=True).start()
        return question


class _Question:
    """One peer being asked, to be answered until `deadline` (of the monotonic clock)."""

    def __init__(self, peer: Peer, deadline: float) -> None:
        self.answer: Future[NodeStatus] = Future()
        self._peer = peer
        self._deadline = deadline

    def ask(self) -> None:
        try:
            self.answer.set_result(self._peer.status(_TIMEOUT))
        except PeerError as error:
            self.answer.set_result(self._unreachable(str(error)))
        except Exception as error:  # for whoever waits: this thread has nobody to tell
            self.answer.set_exception(error)

    def outcome(self) -> NodeStatus:
        try:
            return self.answer.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            return self._unreachable(f"{self._peer.node_id} did not answer in time")

    def _unreachable(self, why: str) -> NodeStatus:
        return NodeStatus(self._peer.node_id, reachable=False, error=why)
