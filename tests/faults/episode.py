"""One cluster under faults, from its first start to what is found wrong with it."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from faults.invariants import histories_violations, nodes_violations
from faults.nemesis import SPARING, Nemesis, needs_links, needs_power
from faults.network import Network
from faults.nodes import PEER_PORTS, IsolatedCluster
from faults.observer import Observer
from faults.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = {
    "request_timeout": "3",
    "scan_interval": "20",
    # Snapshots all the time, and nodes that come back too late for the log.
    "compact_entries": "200",
    "compact_keep": "50",
}


@dataclass
class Summary:
    """What a run did and found.

    Attributes:
        effects: fault -> what it did, counted where it took effect, and the writes that were
            acknowledged meanwhile.
        longest_silence_seconds: between two acknowledged writes; clients that wait for a node that
            does not answer are part of it.
        highest: what a node took at most.
        without_effect: fault -> how often nothing of it could be counted.
    """

    seed: str
    episodes: int = 0
    histories: int = 0
    operations: int = 0
    acknowledged_writes: int = 0
    unknown_writes: int = 0
    folder_edits: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    effects: dict[str, Counter[str]] = field(default_factory=dict)
    without_effect: Counter[str] = field(default_factory=Counter)
    longest_silence_seconds: float = 0.0
    highest: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    replay: list[str] = field(default_factory=list)

    def took_effect(self, name: str, effects: Counter[str], acknowledged: int) -> None:
        """A fault was inflicted: count it with what it did."""
        self.faults[name] += 1
        self.without_effect[name] += not effects
        done = self.effects.setdefault(name, Counter())
        done.update(effects)
        done["writes_acknowledged"] += acknowledged


class Episode:
    """A cluster of `size` nodes, its clients, and the faults `names`, drawn from `seed`.

    Its files are in a directory below `directory`, and stay there if anything was wrong.

    Raises:
        RuntimeError: namespaces or volumes cannot be made here.
    """

    def __init__(self, seed: str, size: int, names: list[str], directory: Path) -> None:
        self._names = names
        self._name = "its start"
        self._directory = Path(tempfile.mkdtemp(prefix="pickbox-faults-", dir=directory))
        nodes = [f"node{number}" for number in range(1, size + 1)]
        network = Network(nodes, PEER_PORTS, proxied=needs_links(names))
        lossy = needs_power(names)
        self._cluster = IsolatedCluster(self._directory, network, lossy=lossy, **SETTINGS)
        self._workload = Workload(self._cluster, seed)
        self._observer = Observer(self._cluster)
        self._nemesis = Nemesis(self._cluster, random.Random(seed))

    def run(self, seconds: float, summary: Summary, say: Callable[[str], None]) -> list[str]:
        """Go on for `seconds`, and until each fault was there once; return what was wrong."""
        try:
            found = self._live(seconds, summary, say)
            if not found:
                found = self._judge()
            found += [*self._observer.wrong, *histories_violations(self._workload.record)]
            if found:
                self._cluster.keep_volumes()
        finally:
            self._cluster.remove()
        self._count(summary)
        if not found:
            shutil.rmtree(self._directory)
            return []
        self._workload.record.write(self._directory)
        return [*found, f"history, logs, and volumes after the run: {self._directory}"]

    def _live(self, seconds: float, summary: Summary, say: Callable[[str], None]) -> list[str]:
        try:
            self._cluster.start()
        except AssertionError as error:
            return [f"the cluster does not start: {error}"]
        self._workload.start()
        self._observer.start()
        try:
            return self._inflict(seconds, summary, say)
        except Exception as error:  # told with the seed, and the run goes on
            return [f"the cluster is not whole after {self._name}: {error!r}"]
        finally:
            self._workload.stop()
            self._observer.stop()

    def _inflict(self, seconds: float, summary: Summary, say: Callable[[str], None]) -> list[str]:
        deadline = time.monotonic() + seconds
        left = self._nemesis.rng.sample(self._names, len(self._names))
        while left or time.monotonic() < deadline:
            name = left.pop() if left else self._nemesis.rng.choice(self._names)
            began, self._name = time.monotonic(), name
            effects = self._nemesis.inflict(name)
            say(f"  {time.strftime('%H:%M:%S')} {name}: {dict(effects)}")
            acknowledged = self._acknowledged(began)
            summary.took_effect(name, effects, acknowledged)
            if name in SPARING and not acknowledged:
                self._workload.record.wrong.append(f"{name}: nobody could write meanwhile")
            self._nemesis.last(0.5, 1.5)
        return []

    def _acknowledged(self, since: float) -> int:
        operations = self._workload.record.history.operations()
        return sum(o.writes and o.outcome == "done" and o.returned >= since for o in operations)

    def _judge(self) -> list[str]:
        record = self._workload.record
        record.powerless |= self._cluster.powerless
        try:
            self._workload.read_all()
            return list(nodes_violations(self._cluster, record))
        except Exception as error:
            return [f"the nodes cannot be judged: {error!r}"]

    def _count(self, summary: Summary) -> None:
        record = self._workload.record
        operations = record.history.operations()
        writes = [o for o in operations if o.writes]
        summary.episodes += 1
        summary.histories += len(record.history.groups())
        summary.operations += len(operations)
        summary.acknowledged_writes += sum(o.outcome == "done" for o in writes)
        summary.unknown_writes += sum(o.outcome == "unknown" for o in writes)
        summary.folder_edits += len(record.edits)
        answered = sorted(o.returned for o in writes if o.outcome == "done")
        silences = (after - before for before, after in pairwise(answered))
        summary.longest_silence_seconds = max(summary.longest_silence_seconds, *silences, 0.0)
        for what, amount in self._observer.resources.highest.items():
            summary.highest[what] = max(summary.highest.get(what, 0), amount)
