"""What the nodes were like lately: a ring of samples in memory, for the graphs of the dashboard.

It has a bounded number of samples, and in each the members of that time; nothing of it is on disk.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pickbox.status import Figures, NodeStatus

SECONDS: Final = 5.0
"""Between two samples."""

CAPACITY: Final = 720
"""Samples that are kept: an hour."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A node in one sample. What is None is not known: it takes two looks at a running node."""

    lag: int | None = None
    commits_per_second: float | None = None
    bytes_per_second: float | None = None
    replication_seconds: float | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    disk_used_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The readings of all members at a time (seconds since 1970)."""

    at: float
    nodes: dict[str, Reading]


class History:
    """The samples, oldest first. Any thread may ask; one thread adds."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._samples: deque[Sample] = deque(maxlen=capacity)
        self._before: dict[str, NodeStatus] = {}
        self._lock = threading.Lock()

    def add(self, at: float, nodes: Iterable[NodeStatus]) -> Sample:
        """Take in what `nodes` say of themselves now."""
        now = {node.node_id: node for node in nodes}
        readings = {
            node_id: _reading(node, self._before.get(node_id)) for node_id, node in now.items()
        }
        sample = Sample(at, readings)
        self._before = now
        with self._lock:
            while self._samples and self._samples[-1].at >= at:  # the clock was put back
                self._samples.pop()
            self._samples.append(sample)
        return sample

    def since(self, at: float) -> list[Sample]:
        """The samples that are later than `at`."""
        with self._lock:
            return [sample for sample in self._samples if sample.at > at]


def _reading(node: NodeStatus, before: NodeStatus | None) -> Reading:
    if not node.reachable:
        return Reading()
    figures = node.figures
    known = Reading(
        lag=node.lag,
        memory_bytes=figures.memory_bytes,
        disk_used_percent=_used(figures),
    )
    if before is None or not before.reachable:
        return known
    # The node's own clock: how long ago it was asked does not blur its rates.
    seconds = figures.uptime_seconds - before.figures.uptime_seconds
    if seconds <= 0:  # it was started anew, or this is what it said before
        return known
    old = before.figures
    return Reading(
        lag=known.lag,
        commits_per_second=round(max(0, node.commit_index - before.commit_index) / seconds, 2),
        bytes_per_second=round(max(0, figures.bytes_replicated - old.bytes_replicated) / seconds),
        replication_seconds=_mean_since(figures, old),
        cpu_percent=round(100 * max(0, figures.cpu_seconds - old.cpu_seconds) / seconds, 1),
        memory_bytes=known.memory_bytes,
        disk_used_percent=known.disk_used_percent,
    )


def _mean_since(figures: Figures, old: Figures) -> float | None:
    """The mean of what was replicated since `old`; None if nothing was."""
    count = figures.replications - old.replications
    if count <= 0:
        return None
    total = figures.replication_seconds_avg * figures.replications
    return round((total - old.replication_seconds_avg * old.replications) / count, 4)


def _used(figures: Figures) -> float | None:
    if figures.disk_total_bytes <= 0:  # a release that does not say
        return None
    return round(100 * (1 - figures.disk_free_bytes / figures.disk_total_bytes), 2)
