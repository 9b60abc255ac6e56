"""Looks at the cluster in a thread of its own, for the graphs and the events of the dashboard."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.observability.events import Events, Finding, differences
from pickbox.observability.history import SECONDS, History, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.observability.events import Event
    from pickbox.observability.file_changes import FileChanges
    from pickbox.status import ClusterStatus

log = logging.getLogger(__name__)

TICK: Final = 1.0
"""Seconds between two looks at what costs nothing: this node itself."""

_WATCHED: Final = 2.0
"""Seconds between two looks at all nodes while somebody looks on."""

_LOOKS_AFTER_A_CHANGE: Final = 3
"""The other nodes are asked again at so many ticks: what changed here changes there in a while."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a look brought; `sample` is there when it was time for one."""

    cluster: ClusterStatus
    sample: Sample | None
    events: list[Event]


class Onlooker(Protocol):
    """To whom observations are told."""

    @property
    def looking(self) -> bool:
        """Whether it wants to know at once; if nobody does, the nodes are asked less often."""

    def observed(self, observation: Observation) -> None: ...


class Observer:
    """Fills `history` and `events` until `stopped` is set.

    Args:
        ask: how all nodes are; asks them.
        mark: anything that differs when this node's own view of the cluster changes; cheap.
        changes: what happens to files.
    """

    def __init__(
        self,
        ask: Callable[[], ClusterStatus],
        mark: Callable[[], object],
        changes: FileChanges,
        stopped: threading.Event,
        tick: float = TICK,
    ) -> None:
        self.history = History()
        self.events = Events()
        self._ask = ask
        self._mark = mark
        self._changes = changes
        self._stopped = stopped
        self._tick = tick
        self._onlookers: list[Onlooker] = []
        self._before: ClusterStatus | None = None
        self._seen: object = None
        self._next_sample = 0.0
        self._next_files = 0.0
        self._next_look = 0.0
        self._looks = 0
        self._findings: list[Finding] = []  # not told yet

    def tell(self, onlooker: Onlooker) -> None:
        """Have `onlooker` told of every observation, in the observer's thread."""
        self._onlookers.append(onlooker)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="observer", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.wait(self._tick):
            try:
                self.look()
            except Exception as error:  # the disk, say: the checks of /health say more of it
                log.warning("not_observed", extra={"fields": {"why": str(error)}})

    def look(self) -> None:
        """Take a sample if it is time, and see what happened."""
        now, mark = time.monotonic(), self._mark()
        watched = any(onlooker.looking for onlooker in self._onlookers)
        due = now >= self._next_sample
        self._findings += self._file_findings(now, watched)
        if mark != self._seen or self._findings:
            self._seen, self._looks = mark, _LOOKS_AFTER_A_CHANGE
        if not (due or self._looks or (watched and now >= self._next_look)):
            return
        self._looks = max(0, self._looks - 1)
        self._next_look = now + _WATCHED - self._tick / 2
        cluster = self._ask()
        sample = None
        if due:
            sample = self.history.add(time.time(), cluster.nodes)
            self._next_sample = now + SECONDS - self._tick / 2
        findings, self._findings = self._findings, []
        self._tell(cluster, sample, findings)

    def _file_findings(self, now: float, watched: bool) -> list[Finding]:
        """What happened to files: at once if somebody looks, but of a busy folder now and then."""
        if now < (self._next_files if watched else self._next_sample):
            return []
        findings = self._changes.findings()
        if findings:
            self._next_files = now + SECONDS
        return findings

    def _tell(self, cluster: ClusterStatus, sample: Sample | None, findings: list[Finding]) -> None:
        if self._before is not None:
            findings = [*differences(self._before, cluster), *findings]
        self._before = cluster
        observation = Observation(cluster, sample, self.events.add(findings))
        for onlooker in self._onlookers:
            onlooker.observed(observation)
