"""What nodes say and take while they are disturbed: terms, leaders, indexes, memory, files."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

import psutil
import urllib3
from cluster import TOKEN

if TYPE_CHECKING:
    from cluster import Node

    from faults.nodes import IsolatedCluster

MEMORY_BYTES: Final = 300 << 20
FILES: Final = 400
THREADS: Final = 200
"""More than this no node takes at any moment; an idle one has 90 MB, 60 files and 30 threads."""

_NO_ANSWER = (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError)


class Leadership:
    """Judges looks at nodes: one leader a term, terms and indexes that never go back.

    A loss of power takes what a catalog has applied back; the log is applied anew.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._leaders: dict[int, str] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._power_cuts: dict[str, int] = {}

    def see(self, node_id: str, status: dict[str, Any], power_cuts: int = 0) -> None:
        """Judge one look at one node, whose power was cut so often before it."""
        if not status["term"]:
            return  # it has not opened its log yet
        last = self._last.get(node_id, {})
        # Not the commit index, which starts anew with the process: Raft keeps it in memory only.
        figures = ["term"]
        if self._power_cuts.get(node_id, 0) == power_cuts:
            figures.append("applied_index")
        self._power_cuts[node_id] = power_cuts
        for figure in figures:
            before, now = last.get(figure, 0), status[figure]
            if now < before:
                self.wrong.append(f"{node_id}: {figure} went back from {before} to {now}")
        self._last[node_id] = status
        if status["role"] == "leader":
            leader = self._leaders.setdefault(status["term"], node_id)
            if leader != node_id:
                self.wrong.append(f"term {status['term']} has two leaders: {leader} and {node_id}")


class Resources:
    """Judges what nodes take."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.highest = {"memory_bytes": 0, "files": 0, "threads": 0}

    def see(self, node_id: str, memory_bytes: int, files: int, threads: int) -> None:
        """Judge one look at one node's process."""
        limits = {"memory_bytes": MEMORY_BYTES, "files": FILES, "threads": THREADS}
        taken = {"memory_bytes": memory_bytes, "files": files, "threads": threads}
        for what, amount in taken.items():
            if amount > limits[what] >= self.highest[what]:  # once is enough
                self.wrong.append(f"{node_id} has {amount} {what}, more than {limits[what]}")
            self.highest[what] = max(self.highest[what], amount)


class Observer:
    """Has every node looked at a few times a second, from start to stop."""

    def __init__(self, cluster: IsolatedCluster) -> None:
        self.leadership = Leadership()
        self.resources = Resources()
        self._cluster = cluster
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._pool = urllib3.PoolManager(retries=False)

    @property
    def wrong(self) -> list[str]:
        """What nobody may ever have seen."""
        return [*self.leadership.wrong, *self.resources.wrong]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.3):
            for node in self._cluster:
                with contextlib.suppress(*_NO_ANSWER):
                    cuts = self._cluster.power_cuts[node.node_id]
                    self.leadership.see(node.node_id, self._status(node), cuts)
                with contextlib.suppress(psutil.Error, AssertionError):
                    process = psutil.Process(node.pid)
                    with process.oneshot():
                        memory, threads = process.memory_info().rss, process.num_threads()
                    self.resources.see(node.node_id, memory, process.num_fds(), threads)

    def _status(self, node: Node) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = self._pool.request(
            "GET", f"{node.admin}/api/v1/status", headers=headers, timeout=0.5
        )
        status: dict[str, Any] = answer.json()["node"]
        return status
