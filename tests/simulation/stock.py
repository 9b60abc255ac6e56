"""pysyncobj as it is published, under the simulation."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
import zlib
from typing import TYPE_CHECKING, Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node as LibraryNode
from pysyncobj.transport import Transport

from pickbox.consensus.configuration import Configuration, Participant
from simulation.events import Applied, Fate, Restarted
from simulation.journal import SimulatedJournal
from simulation.machine import digest

if TYPE_CHECKING:
    from simulation.subject import Answer, Place
    from simulation.swarm import Plan


class StockPeer(LibraryNode):  # type: ignore[misc]  # the library has no types
    """A node whose hash, and so the order of sets of it, is the same in every process."""

    def __hash__(self) -> int:
        return zlib.crc32(self.id.encode())


class _Transport(Transport):  # type: ignore[misc]
    def __init__(self, node: StockNode, own: Any, others: Any) -> None:
        super().__init__(node, own, others)
        self._node = node
        node.link = self
        node.wanted.update({other.id: (other.id,) for other in others})

    ready = True

    def send(self, node: Any, message: Any) -> bool:
        place = self._node.place
        return place.network.send(place.node_id, node.id, message)

    def addNode(self, node: Any) -> None:  # noqa: N802 - the library's name
        self._node.wanted[node.id] = (node.id,)

    def dropNode(self, node: Any) -> None:  # noqa: N802
        self._node.wanted.pop(node.id, None)

    def destroy(self) -> None: ...


class StockNode(SyncObj):  # type: ignore[misc]
    """The library's node on the simulation's log; its snapshots are real files."""

    kinds = frozenset({"add", "remove"})

    def __init__(self, place: Place, journal: SimulatedJournal) -> None:
        self.place = place
        self.address = place.node_id
        self.link: Any = None
        self.wanted: dict[str, tuple[str, ...]] = {}
        self._journal = journal
        self._asked: list[Answer] = []
        plan, durable_term = place.plan, journal.durable_term
        settings = SyncObjConf(
            autoTick=False,
            useFork=False,
            fullDumpFile=f"{journal.directory}/dump",
            appendEntriesBatchSizeBytes=plan.batch_bytes,
            logCompactionMinEntries=plan.snapshot_every,
            logCompactionMinTime=10**9,
            dynamicMembershipChange=True,
        )
        super().__init__(
            StockPeer(place.node_id),
            [StockPeer(peer) for peer in _peers_of(place)],
            settings,
            nodeClass=StockPeer,
            transportClass=_Transport,
        )
        self.state = 0  # set here, so that it is part of the library's dump
        place.record(Restarted(place.node_id, durable_term, self.term))

    @property
    def _SyncObj__raftLog(self) -> SimulatedJournal:  # noqa: N802 - the library's name
        return self._journal

    @_SyncObj__raftLog.setter
    def _SyncObj__raftLog(self, _: object) -> None:  # noqa: N802
        """Ignore the journal that the library makes."""

    @replicated  # type: ignore[untyped-decorator]
    def write(self, command: bytes) -> int:
        index = self.applied + 1
        self.state = digest(self.state, index, command)
        # The log's entry, not the argument: what invariants compare is the same in all events.
        position = index - self._journal[0][1]
        self.place.record(Applied(self.place.node_id, index, self._journal[position][0]))
        return index

    def received(self, sender: str, message: Any) -> None:
        self.link._onMessageReceived(StockPeer(sender), message)

    def connected(self, peer: str) -> None:
        self.link._onNodeConnected(StockPeer(peer))

    def disconnected(self, peer: str) -> None:
        self.link._onNodeDisconnected(StockPeer(peer))

    def tick(self) -> None:
        self.doTick()
        asked, self._asked = self._asked, []
        for answer in asked:
            if self.leads:
                answer(Fate.DONE, self.applied)
            else:
                answer(Fate.REFUSED, 0)

    def close(self) -> None:
        self.destroy()

    def propose(self, command: bytes, answer: Answer) -> None:
        def heard(index: int | None, reason: int) -> None:
            if reason == FAIL_REASON.SUCCESS:
                answer(Fate.DONE, index or 0)
            else:
                answer(Fate.UNKNOWN, 0)

        self._applyCommand(command, heard)

    def read(self, answer: Answer) -> None:
        """Of a node that says it leads, in its next tick: the library has nothing better."""
        self._asked.append(answer)

    def change(self, kind: str, node_id: str, address: str, version: int, answer: Answer) -> None:
        """The library knows no learners and no versions; its answer is without an index."""

        def heard(_: object, reason: int) -> None:
            answer(Fate.UNKNOWN, 0)

        if kind == "add":
            self.addNodeToCluster(StockPeer(node_id), heard)
        else:
            self.removeNodeFromCluster(StockPeer(node_id), heard)

    @property
    def configuration(self) -> Configuration:
        voters = {peer: Participant(f"{peer}:1") for peer in sorted(self.voters)}
        return Configuration(0, "stock", voters)

    @property
    def leads(self) -> bool:
        return bool(self._isLeader())

    @property
    def term(self) -> int:
        return int(self._getTerm())

    @property
    def commit(self) -> int:
        return int(self.raftCommitIndex)

    @property
    def applied(self) -> int:
        return int(self.raftLastApplied)

    @property
    def voters(self) -> frozenset[str]:
        return frozenset(str(node.id) for node in self.otherNodes) | {self.place.node_id}


def _peers_of(place: Place) -> list[str]:
    """Whom a node is started with: the first nodes, or those that it is to be added to."""
    members = place.voters if place.bootstraps else sorted(place.contacts)
    return [member for member in members if member != place.node_id]


class Stock:
    """The published library."""

    name = "stock"

    def furnish(self, place: Place) -> SimulatedJournal:
        directory = tempfile.mkdtemp(dir=place.directory)
        kills_only = place.plan.power == 0.0
        return SimulatedJournal(place.node_id, place.record, directory, write_through=kills_only)

    def start(self, place: Place, storage: SimulatedJournal) -> StockNode:
        return StockNode(place, storage)

    def scaled(self, plan: Plan) -> contextlib.AbstractContextManager[None]:
        """The library has nothing to scale."""
        return contextlib.nullcontext()

    @staticmethod
    def command(node: StockNode, payload: bytes) -> bytes:
        """As the library packs a call of `write`."""
        method = node._methodToID[node._getFuncName("write")]
        return b"\x00" + pickle.dumps((method, (payload,)), 2)
