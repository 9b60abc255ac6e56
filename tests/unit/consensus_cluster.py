"""A cluster in one thread: a clock that is turned by hand, links in memory, logs that can crash."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
from pysyncobj import syncobj as library
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.library import Identity
from pickbox.consensus.options import Hooks, Options
from pickbox.consensus.snapshot_store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pickbox.consensus.proposals import Outcome

STEP = 0.01
CLUSTER = "test"


class Clock:
    """Stands in for the library's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def fake_clock() -> Iterator[Clock]:
    clock, real = Clock(), library.monotonicTime
    library.monotonicTime = clock
    try:
        yield clock
    finally:
        library.monotonicTime = real


@dataclass(frozen=True)
class VoteRecord:
    term: int = 0
    voted_for: str | None = None


class MemoryLog:
    """The log's interface without a disk: what was not synced is lost by `crash`."""

    def __init__(self) -> None:
        self._entries: list[tuple[bytes, int, int]] = []
        self._hard_state = VoteRecord()
        self.compacted = (0, 0)
        self._durable = list(self._entries), self._hard_state, self.compacted
        self.dirty = False
        self.synced_index = 0
        self.syncs = 0
        self.commit_hint = 0
        self.fail_next_sync: OSError | None = None

    def crash(self) -> None:
        self._entries, self._hard_state, self.compacted = self._durable
        self._entries = list(self._entries)
        self.dirty = False
        self.commit_hint = 0

    def sync(self) -> None:
        if self.fail_next_sync is not None:
            raise self.fail_next_sync
        if self.dirty:
            self.syncs += 1
            self.dirty = False
            self._durable = list(self._entries), self._hard_state, self.compacted
            self.synced_index = self.last_index

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, position: Any) -> Any:
        return self._entries[position]

    @property
    def first_index(self) -> int:
        return self._entries[0][1] if self._entries else self.compacted[0] + 1

    @property
    def last_index(self) -> int:
        return self._entries[-1][1] if self._entries else self.compacted[0]

    @property
    def hard_state(self) -> VoteRecord:
        return self._hard_state

    def term_at(self, index: int) -> int:
        return self._entries[index - self.first_index][2]

    def add(self, command: bytes, index: int, term: int) -> None:
        assert index == self.last_index + 1, "entries follow each other"
        self._entries.append((command, index, term))
        self.dirty = True

    def truncate_from(self, index: int) -> None:
        assert index > self.compacted[0], "what a snapshot holds is committed"
        del self._entries[index - self.first_index :]
        self.synced_index = min(self.synced_index, index - 1)
        self.dirty = True

    def compact_to(self, index: int, term: int, *, keep_trailing: int) -> None:
        inside = self.first_index <= index <= self.last_index
        if inside and self.term_at(index) == term:
            first = max(self.first_index, index + 1 - keep_trailing)
            del self._entries[: first - self.first_index]
        else:
            self._entries = []
            self.synced_index = index
        self.compacted = index, term
        self.dirty = True

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        self._hard_state = VoteRecord(term, voted_for)
        self.dirty = True

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self.commit_hint = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self.commit_hint

    def close(self) -> None: ...


class ListMachine:
    """Keeps what was applied, in order."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.applied_index = 0
        self.poison: set[bytes] = set()
        self.refusal: OSError | None = None

    def apply(self, index: int, command: bytes) -> object:
        if self.refusal is not None:
            raise self.refusal
        if command in self.poison:
            raise ValueError(f"poison: {command!r}")
        self.applied.append((index, command))
        self.applied_index = index
        return command.upper()

    @property
    def commands(self) -> list[bytes]:
        return [command for _, command in self.applied]

    def state_hash(self) -> bytes:
        return msgpack.packb(self.applied)

    def begin_dump(self) -> Callable[[str], None]:
        content = msgpack.packb(self.applied)

        def write(path: str) -> None:
            with open(path, "wb") as file:
                file.write(content)

        return write

    def load(self, path: str) -> None:
        with open(path, "rb") as file:
            self.applied = [(index, command) for index, command in msgpack.unpackb(file.read())]
        self.applied_index = self.applied[-1][0] if self.applied else 0


class Network:
    """Links in memory. Messages are packed on the way, so that nothing is shared by mistake."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.transports: dict[str, MemoryTransport] = {}
        self.links: set[tuple[str, str]] = set()
        self.queues: dict[tuple[str, str], deque[tuple[float, bytes]]] = defaultdict(deque)
        self.delay: dict[tuple[str, str], float] = {}
        self.held: set[tuple[str, str]] = set()
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.drop: Callable[[str, str, dict[str, Any]], bool] = lambda *_: False

    def connect(self, one: str, other: str) -> None:
        for a, b in ((one, other), (other, one)):
            if (a, b) not in self.links:
                self.links.add((a, b))
                self.transports[a]._onNodeConnected(Node(b))

    def disconnect(self, one: str, other: str) -> None:
        for a, b in ((one, other), (other, one)):
            if (a, b) in self.links:
                self.links.discard((a, b))
                self.queues[a, b].clear()
                if a in self.transports:
                    self.transports[a]._onNodeDisconnected(Node(b))

    def isolate(self, node: str) -> None:
        for other in list(self.transports):
            if other != node:
                self.disconnect(node, other)

    def heal(self) -> None:
        for a in self.transports:
            for b in self.transports:
                if a < b:
                    self.connect(a, b)

    def send(self, sender: str, receiver: str, message: dict[str, Any]) -> bool:
        if (sender, receiver) not in self.links:
            return False
        self.sent.append((sender, receiver, message))
        if not self.drop(sender, receiver, message):
            due = self.clock.now + self.delay.get((sender, receiver), 0.0)
            self.queues[sender, receiver].append((due, pack(message)))
        return True

    def deliver(self) -> None:
        for (sender, receiver), queue in list(self.queues.items()):
            if (sender, receiver) in self.held:
                continue
            while queue and queue[0][0] <= self.clock.now:
                packed = queue.popleft()[1]
                if receiver in self.transports and (sender, receiver) in self.links:
                    self.transports[receiver]._onMessageReceived(Node(sender), unpack(packed))


def pack(message: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed


def unpack(packed: bytes) -> dict[str, Any]:
    message: dict[str, Any] = msgpack.unpackb(packed)
    return message


class MemoryTransport(Transport):
    """A node's end of the network."""

    network: Network  # set on a subclass for each cluster

    def __init__(self, node: Any, self_node: Node, other_nodes: set[Node]) -> None:
        super().__init__(node, self_node, other_nodes)
        self.node_id = self_node.id
        self.peers: set[str] = set()
        self.network.transports[self.node_id] = self

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        return self.network.send(self.node_id, node.id, message)

    def addNode(self, node: Node) -> None:  # noqa: N802
        self.peers.add(node.id)

    def dropNode(self, node: Node) -> None:  # noqa: N802
        self.peers.discard(node.id)


class Cluster:
    """Nodes of the safe core. `nodes`, `logs` and `machines` are by node id."""

    def __init__(
        self, clock: Clock, directory: str, ids: str = "ABC", *, seed: int = 1, **options: Any
    ) -> None:
        self.clock = clock
        self.directory = directory
        self.network = Network(clock)
        self.random = random.Random(seed)
        self.options = Options(**options)
        self.transport = type("Links", (MemoryTransport,), {"network": self.network})
        voters = {n: Participant(f"{n}:1") for n in ids}
        self.bootstrap = Configuration(1, CLUSTER, voters)
        self.nodes: dict[str, SafeSyncObj] = {}
        self.logs: dict[str, MemoryLog] = {}
        self.machines: dict[str, ListMachine] = {}
        self.outcomes: list[Outcome] = []
        for node_id in ids:
            self.start(node_id)
        self.network.heal()

    def start(
        self,
        node_id: str,
        *,
        incarnation: bytes | None = None,
        joining: bool = False,
        contacts: dict[str, str] | None = None,
        hooks: Hooks | None = None,
    ) -> SafeSyncObj:
        self.logs.setdefault(node_id, MemoryLog())
        self.machines.setdefault(node_id, ListMachine())
        node = SafeSyncObj(
            Identity(node_id, incarnation or f"{node_id}-1".encode(), CLUSTER),
            self.logs[node_id],
            self.machines[node_id],
            SnapshotStore(f"{self.directory}/{node_id}"),
            self.transport,
            rng=random.Random(self.random.random()),
            bootstrap=None if joining else self.bootstrap,
            contacts=contacts,
            options=self.options,
            hooks=hooks,
        )
        self.nodes[node_id] = node
        return node

    def crash(self, node_id: str) -> None:
        """End a node as a power cut would: what was not synced is gone."""
        self.network.isolate(node_id)
        del self.network.transports[node_id]
        self.nodes.pop(node_id).close()
        self.logs[node_id].crash()

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def step(self, only: str | None = None) -> None:
        self.clock.now += STEP
        self.network.deliver()
        for node_id, node in list(self.nodes.items()):
            if only is None or node_id in only:
                node.doTick(0.0)

    def run(self, seconds: float, only: str | None = None) -> None:
        for _ in range(round(seconds / STEP)):
            self.step(only)

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        for _ in range(round(seconds / STEP)):
            if condition():
                return
            self.step()
        raise AssertionError("it did not come to pass")

    @property
    def leader(self) -> str | None:
        """The leader of the highest term, if it has committed an entry of its own."""
        leaders = [n for n in self.nodes.values() if n.leads]
        best = max(leaders, key=lambda n: n.term, default=None)
        if best is None or best.term_at(best.commit_index) != best.term:
            return None
        return best.node_id

    def elect(self) -> str:
        self.until(lambda: self.leader)
        assert self.leader is not None
        return self.leader

    def followers(self) -> list[str]:
        return [n for n in self.nodes if n != self.leader]

    def propose(self, node_id: str, *commands: bytes) -> list[Outcome]:
        """Propose; the list fills as answers come."""
        outcomes: list[Outcome] = []
        for command in commands:
            self.nodes[node_id].propose(command, outcomes.append)
        return outcomes
