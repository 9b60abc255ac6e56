"""What goes on in a cluster while it is disturbed: clients over HTTP, and people in the folders."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from cluster import wait_until

from faults.folder_clients import FolderClient, Reader
from faults.http_client import HttpClient, Paths
from faults.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.nodes import IsolatedCluster


class Workload:
    """Clients on threads of their own, from `start` to `stop`."""

    def __init__(self, cluster: IsolatedCluster, seed: str, clients: int = 6) -> None:
        self.record = Record()
        self._nodes = list(cluster)
        self._stopping = threading.Event()
        self._paths = Paths()
        people = FolderClient(cluster, self.record, random.Random(f"{seed}/folder"))
        reader = Reader(cluster, self.record, random.Random(f"{seed}/reader"))
        turns: list[tuple[Callable[[], object], float]] = [
            (people.operate, 0.2),
            (reader.look, 0.1),
        ]
        for number in range(clients):
            rng = random.Random(f"{seed}/{number}")
            client = HttpClient(number, self._nodes, self._paths, self.record, rng)
            turns.append((client.operate, 0.01))
        self._threads = [threading.Thread(target=self._go_on, args=turn) for turn in turns]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have every client end its operation, and wait for it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def read_all(self) -> None:
        """Read every path at every node, linearizably: the last word on what became of it."""
        paths = {path for o in self.record.history.operations() for path in o.paths}
        for number, node in enumerate(self._nodes):
            rng = random.Random(number)
            client = HttpClient(1000 + number, [node], self._paths, self.record, rng)
            for path in sorted(paths):
                wait_until(lambda: client.get(path), f"{node.node_id} reads {path}")  # noqa: B023

    def _go_on(self, turn: Callable[[], object], pause: float) -> None:
        while not self._stopping.wait(pause):
            try:
                turn()
            except Exception as error:
                self.record.wrong.append(f"a client failed: {error!r}")
                raise
