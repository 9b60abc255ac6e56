"""The project's own core under the simulation, on its own log and snapshots."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import msgpack
from pysyncobj.node import Node as LibraryNode
from pysyncobj.transport import Transport

from pickbox.consensus import membership, reviewed, snapshots
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.library import REGULAR, Identity
from pickbox.consensus.options import Hooks, Options
from pickbox.consensus.proposals import Fate as CoreFate
from pickbox.consensus.proposals import Outcome
from simulation.events import Diverged, Fate, Installed, Restarted, Voted
from simulation.storage import NodeStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pickbox.consensus.library import RaftLog
    from pickbox.consensus.proposals import Callback
    from pickbox.consensus.snapshot_store import Snapshot
    from simulation.subject import Answer, Place
    from simulation.swarm import Plan

CLUSTER = "simulated"
_FATES = {
    CoreFate.COMMITTED: Fate.DONE,
    CoreFate.NOT_APPENDED: Fate.REFUSED,
    CoreFate.UNKNOWN: Fate.UNKNOWN,
}


class WatchedCore(SafeSyncObj):
    """The core, which tells what nobody else sees."""

    place: Place

    def take_in(self, snapshot: Snapshot) -> None:
        super().take_in(snapshot)
        self.place.record(Installed(self.node_id, snapshot.index))


class SafeNode:
    """A `SafeSyncObj` at a place; messages cross the links as msgpack, as between machines."""

    kinds = frozenset({"add", "promote", "remove", "move"})

    def __init__(self, place: Place, storage: NodeStorage) -> None:
        self.place = place
        self.address = place.address
        self.wanted: dict[str, tuple[str, ...]] = {}
        self._machine = storage.machine
        self._link: Any = None
        log, store, lost = storage.open()
        durable_term = storage.durable_term
        plan = place.plan
        self.core = WatchedCore(
            Identity(place.node_id, place.incarnation, CLUSTER),
            cast("RaftLog", log),
            storage.machine,
            store,
            self._transport_class(),
            rng=place.rng,
            bootstrap=first_configuration(place.voters) if place.bootstraps else None,
            contacts=place.contacts,
            options=Options(
                batch_bytes=plan.batch_bytes,
                hash_every=7,
                snapshot_every=plan.snapshot_every,
                keep_trailing=plan.keep_trailing,
            ),
            hooks=Hooks(
                on_diverged=lambda index: place.record(Diverged(place.node_id, index)),
            ),
        )
        self.core.place = place
        voted_for = (self.core.voted_for or "").partition("/")[0]
        place.record(Restarted(place.node_id, durable_term, self.core.term, lost, voted_for))

    def _transport_class(self) -> type[Any]:
        outer = self
        place, network = self.place, self.place.network

        class Link(Transport):  # type: ignore[misc]  # the library has no types
            ready = True

            def __init__(self, node: Any, own: Any, others: Any) -> None:
                super().__init__(node, own, others)
                outer._link = self

            def send(self, node: Any, message: Mapping[str, Any]) -> bool:
                if message["type"] == "vote_reply" and message["granted"] and not message["trial"]:
                    place.record(Voted(place.node_id, message["asked"], node.id))
                return network.send(place.node_id, node.id, msgpack.packb(message))

            def addNode(self, node: Any) -> None:  # noqa: N802 - the library's name
                outer.wanted[node.id] = node.places

            def dropNode(self, node: Any) -> None:  # noqa: N802
                outer.wanted.pop(node.id, None)
                network.drop(place.node_id, node.id)

            def destroy(self) -> None: ...

        return Link

    def received(self, sender: str, message: Any) -> None:
        self._link._onMessageReceived(LibraryNode(sender), msgpack.unpackb(message))

    def connected(self, peer: str) -> None:
        self._link._onNodeConnected(LibraryNode(peer))

    def disconnected(self, peer: str) -> None:
        self._link._onNodeDisconnected(LibraryNode(peer))

    def tick(self) -> None:
        self.core.doTick()

    def close(self) -> None:
        self.core.close()

    def propose(self, command: bytes, answer: Answer) -> None:
        self.core.propose(command[len(REGULAR) :], _heard(answer))

    def read(self, answer: Answer) -> None:
        """Answered with what the reader would see here: never more than is applied."""

        def heard(outcome: Outcome) -> None:
            answer(_FATES[outcome.fate], min(outcome.index, self.core.applied_index))

        self.core.reads.barrier(heard)

    def transfer(self, target: str | None, seconds: float, answer: Answer) -> None:
        self.core.handover.transfer(target, seconds, _heard(answer))

    def change(self, kind: str, node_id: str, address: str, version: int, answer: Answer) -> None:
        members, heard = self.core.membership, _heard(answer)
        match kind:
            case "add":
                members.add_learner(node_id, address, version, heard)
            case "promote":
                members.promote(node_id, version, heard)
            case "remove":
                members.remove(node_id, version, heard)
            case "move":
                members.move(node_id, address, version, heard)

    def make_snapshot(self) -> None:
        self.core.request_snapshot()

    @property
    def configuration(self) -> Configuration:
        return self.core.configuration

    @property
    def leads(self) -> bool:
        return self.core.leads

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def commit(self) -> int:
        return self.core.commit_index

    @property
    def applied(self) -> int:
        return self.core.applied_index

    @property
    def state(self) -> int:
        return self._machine.state

    @property
    def voters(self) -> frozenset[str]:
        return frozenset(self.core.configuration.voters)


def _heard(answer: Answer) -> Callback:
    def heard(outcome: Outcome) -> None:
        answer(_FATES[outcome.fate], outcome.index, str(outcome.value or outcome.reason))

    return heard


def first_configuration(voters: list[str]) -> Configuration:
    return Configuration(1, CLUSTER, {voter: Participant(f"{voter}:1") for voter in voters})


class Safe:
    """The core of this project."""

    name = "safe"

    def furnish(self, place: Place) -> NodeStorage:
        return NodeStorage(place)

    def start(self, place: Place, storage: NodeStorage) -> SafeNode:
        return SafeNode(place, storage)

    def command(self, node: SafeNode, payload: bytes) -> bytes:
        return REGULAR + payload

    @contextlib.contextmanager
    def scaled(self, plan: Plan) -> Iterator[None]:
        """Constants of the core at the size of the simulation; the library is checked once."""
        reviewed.check_library()
        with (
            mock.patch.object(snapshots, "_CHUNK_BYTES", plan.chunk_bytes),
            mock.patch.object(membership, "_CAUGHT_UP", 5),
            mock.patch("pickbox.consensus.core.check_library", return_value=None),
        ):
            yield
