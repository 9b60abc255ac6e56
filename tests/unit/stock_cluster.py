"""Stock pysyncobj on the network of `consensus_cluster`: what the findings are shown on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from consensus_cluster import Clock, MemoryTransport, Network
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj import syncobj as library
from pysyncobj.journal import FileJournal, MemoryJournal
from pysyncobj.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP = 0.05


class StockNode(SyncObj):
    """One replicated method; `poison` makes it raise."""

    def __init__(self, node_id: str, others: str, transport: Any, **settings: Any) -> None:
        self.log: list[Any] = []
        conf = SyncObjConf(autoTick=False, **settings)
        super().__init__(
            Node(node_id), [Node(o) for o in others], conf, nodeClass=Node, transportClass=transport
        )

    @replicated
    def op(self, value: Any) -> Any:
        if value == "poison":
            raise ValueError(value)
        self.log.append(value)
        return value

    def private(self, name: str) -> Any:
        return getattr(self, f"_SyncObj__{name}")

    @property
    def last_index(self) -> int:
        return self.private("raftLog")[-1][1]

    def hear(self, sender: str, message: dict[str, Any]) -> None:
        self.private("onMessageReceived")(Node(sender), message)


class StockCluster:
    """Nodes of the stock library, in memory.

    Args:
        directory: where each node has its journal and its dump; None keeps nothing.
        kinds: which nodes are of another class than `StockNode`.
    """

    def __init__(
        self,
        clock: Clock,
        ids: str = "ABC",
        *,
        directory: Path | None = None,
        kinds: dict[str, type[StockNode]] | None = None,
        **settings: Any,
    ) -> None:
        random.seed(1)
        library.createJournal = lambda path: FileJournal(path) if path else MemoryJournal()
        self.clock, self.ids, self.settings = clock, ids, settings
        self.directory, self.kinds = directory, kinds or {}
        self.network = Network(clock)
        self.transport = type("Links", (MemoryTransport,), {"network": self.network})
        self.nodes = {n: self.start(n) for n in ids}
        self.errors: list[Exception] = []
        self.network.heal()

    def start(self, node_id: str) -> StockNode:
        others = self.ids.replace(node_id, "")
        kind = self.kinds.get(node_id, StockNode)
        return kind(node_id, others, self.transport, **self._files(node_id), **self.settings)

    def _files(self, node_id: str) -> dict[str, Any]:
        """Settings that have a node keep its log and state, and compact only when told to."""
        if self.directory is None:
            return {}
        return {
            "journalFile": f"{self.directory}/{node_id}.journal",
            "fullDumpFile": f"{self.directory}/{node_id}.dump",
            "useFork": False,
            "logCompactionMinEntries": 10**9,
            "logCompactionMinTime": 10**9,
        }

    def kill(self, node_id: str) -> None:
        """End a node; what it has written to its files is there."""
        self.network.isolate(node_id)
        del self.network.transports[node_id]
        self.nodes.pop(node_id).destroy()

    def restart(self, node_id: str) -> StockNode:
        """Start a node that was killed, with its links down."""
        self.nodes[node_id] = self.start(node_id)
        return self.nodes[node_id]

    def compact(self, node_id: str) -> None:
        """Have a node write its dump, and cut its journal by it."""
        self.nodes[node_id].forceLogCompaction()
        self.run(0.2)

    def step(self, only: str | None = None) -> None:
        self.clock.now += STEP
        self._try(self.network.deliver)
        for node_id, node in self.nodes.items():
            if only is None or node_id in only:
                self._try(node.doTick)
        self._try(self.network.deliver)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.errors.append(error)

    def run(self, seconds: float, only: str | None = None) -> None:
        for _ in range(round(seconds / STEP)):
            self.step(only)

    def elect(self) -> str:
        self.run(6)
        return max(
            (n for n in self.nodes.values() if n._isLeader()), key=lambda n: n.raftCurrentTerm
        ).selfNode.id

    def followers(self, leader: str) -> list[str]:
        return [n for n in self.nodes if n != leader]
