"""What happened in the cluster lately, in sentences: found by comparing two pictures of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pickbox.status import ClusterStatus, NodeStatus

KEPT: Final = 100
"""Events that are kept, those about files not counted."""

FILE_EVENTS_KEPT: Final = 20
"""Of those about files, so that a busy folder does not push the others out."""

_LONGEST_NUMBER: Final = 18
"""Digits of an event's number; what a client sends with more is none of ours, and costs no time."""

FILES_CHANGED: Final = "files_changed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was noticed. `kind` is one word that stays, `text` the sentence for people."""

    kind: str
    text: str
    node_id: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A finding, when it was noticed (seconds since 1970), and an id that no other event has."""

    id: str
    at: float
    finding: Finding


class Events:
    """The latest events, oldest first."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._count = 0
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._of_files: deque[Event] = deque(maxlen=FILE_EVENTS_KEPT)
        self._lock = threading.Lock()

    def add(self, findings: Sequence[Finding]) -> list[Event]:
        """Keep `findings` as events of now."""
        with self._lock:
            return [self._add(finding) for finding in findings]

    def latest(self) -> list[Event]:
        """All that are kept."""
        with self._lock:
            return sorted([*self._events, *self._of_files], key=_number)

    def after(self, event_id: str) -> list[Event]:
        """What came after `event_id`; all that are kept, if that is not one of this node's."""
        run, _, number = event_id.partition("-")
        is_number = number.isascii() and number.isdecimal() and len(number) <= _LONGEST_NUMBER
        if run != self._run or not is_number:
            return self.latest()
        return [event for event in self.latest() if _number(event) > int(number)]

    def _add(self, finding: Finding) -> Event:
        self._count += 1
        event = Event(f"{self._run}-{self._count}", time.time(), finding)
        (self._of_files if finding.kind == FILES_CHANGED else self._events).append(event)
        return event


def _number(event: Event) -> int:
    return int(event.id.partition("-")[2])


def differences(before: ClusterStatus, now: ClusterStatus) -> Iterator[Finding]:
    """What happened between two pictures of the cluster, as one node saw them."""
    if before.leader != now.leader:
        yield _leader(now)
    if before.has_quorum != now.has_quorum:
        yield _quorum(now)
    old = {node.node_id: node for node in before.nodes}
    for node in now.nodes:
        known = old.pop(node.node_id, None)
        if known is None:
            yield Finding("member_added", f"{node.node_id} was added to the cluster.", node.node_id)
        else:
            yield from _node(known, node)
    for node_id in old:
        yield Finding("member_removed", f"{node_id} was removed from the cluster.", node_id)


def _leader(now: ClusterStatus) -> Finding:
    if now.leader is None:
        return Finding("leader_lost", "No leader is known.")
    return Finding("leader_changed", f"{now.leader} leads, in term {now.term}.", now.leader)


def _quorum(now: ClusterStatus) -> Finding:
    if now.has_quorum:
        return Finding("quorum_reached", "A majority of the nodes is reached.")
    return Finding("quorum_lost", "No majority of the nodes is reached.")


def _node(before: NodeStatus, now: NodeStatus) -> Iterator[Finding]:
    name = now.node_id
    if before.reachable != now.reachable:
        if now.reachable:
            yield Finding("node_up", f"{name} answers.", name)
        else:
            yield Finding("node_down", f"{name} does not answer.", name)
    elif now.reachable and before.draining != now.draining:
        if now.draining:
            yield Finding("drain_started", f"{name} is draining: it takes no requests.", name)
        else:
            yield Finding("drain_ended", f"{name} is in service again.", name)
    elif now.reachable and before.ready != now.ready:
        if now.ready:
            yield Finding("node_ready", f"{name} is ready.", name)
        else:
            why = now.reasons[0] if now.reasons else "it gave no reason"
            yield Finding("node_not_ready", f"{name} is not ready: {why}.", name)
