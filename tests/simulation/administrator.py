"""Who runs a simulated cluster: starts its nodes, changes its members, replaces lost ones.

An operator who asks for no cluster that could never have a majority again, and who starts no node
of a grown cluster with the first settings while nobody remembers that there is one: what is lost
with all of those data directories is not Raft's to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pickbox.consensus.configuration import Configuration, InvalidConfiguration, Participant
from pickbox.consensus.library import MEMBERSHIP
from simulation.events import Appended, Committed, Ending, Event, Fate, Operation
from simulation.subject import Changes

if TYPE_CHECKING:
    from simulation.world import World

_STALE = 0.05
"""Share of changes that are asked for against a version which is not in force."""
_RANDOM = 0.1
"""Share of changes that do nothing for the size of the cluster."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A change of the members: ``add``, ``promote``, ``remove`` or ``move`` a node."""

    kind: str
    node_id: str
    address: str = ""

    def made_in(self, members: Configuration, incarnation: bytes) -> Configuration:
        match self.kind:
            case "add":
                return members.with_learner(self.node_id, Participant(self.address))
            case "promote":
                return members.with_voter(self.node_id, incarnation)
            case "move":
                return members.with_address(self.node_id, self.address)
            case _:
                return members.without(self.node_id)


class Administrator:
    """Knows which members there may be: those in some log, and those that were asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._first = world.ids[: world.plan.voters]
        now, rng = world.clock.now, world.rng
        self._starts = {n: now + rng.uniform(0, world.plan.cold_start) for n in self._first}
        self._installed = set(self._first)
        for node_id in self._first:
            world.places[node_id].contacts = {n: world.places[n].address for n in self._first}
        self._committed: Configuration | None = None
        self._formed_at = 0
        self._appended: dict[bytes, Configuration] = {}
        self._asked: dict[int, Configuration] = {}
        self._known_on: dict[str, Configuration] = {}
        self._lost: set[str] = set()
        self._remembering: set[str] = set()
        self._added_in_life: dict[str, int] = {}
        self._target = world.plan.voters

    def see(self, event: Event) -> None:
        """Follow which configurations are in some log, and which one is committed."""
        if not isinstance(event, Appended | Committed) or event.command[:1] != MEMBERSHIP:
            return
        try:
            members = Configuration.decode(event.command[1:])
        except InvalidConfiguration:
            return  # the published library has its own
        if isinstance(event, Appended):
            self._appended[event.command] = members
            self._known_on[event.node] = members
        elif self._committed is None or members.version > self._committed.version:
            self._committed = members
            if members.version > 1 and not self._formed_at:
                self._formed_at = event.index

    def act(self) -> None:
        world = self._world
        for node_id in [n for n, at in self._starts.items() if at <= world.clock.now]:
            del self._starts[node_id]
            world.start(node_id)
        self.restart_some(world.plan.restart)
        if world.happens(world.plan.wipe):
            self._wipe(world.rng.choice(world.ids))
        if world.nodes and world.happens(world.plan.change):
            self._change(world.clients.someone())

    # -- nodes -----------------------------------------------------------------------------------

    def restart_some(self, rate: float) -> None:
        world = self._world
        for node_id in sorted(self._installed - world.nodes.keys() - self._starts.keys()):
            if world.happens(rate):
                world.start(node_id)

    def settle(self) -> None:
        """Ask for nothing any more, and start all nodes that there are."""
        self._starts.clear()
        for node_id in sorted(self._installed):
            self._world.start(node_id)

    def members_in_good_standing(self) -> list[str]:
        """Nodes that run, take part, and are who they are known to be."""
        world, members = self._world, self._committed
        if members is None:
            return [n for n in self._first if n in world.nodes]
        return [
            node_id
            for node_id, participant in members.participants.items()
            if node_id in world.nodes
            and participant.incarnation in (b"", world.places[node_id].incarnation)
        ]

    def _wipe(self, node_id: str) -> None:
        world = self._world
        if node_id not in self._installed or not self._may_lose(node_id):
            return
        if world.elected:
            self._lost.add(node_id)
        self._remembering.discard(node_id)
        self._known_on.pop(node_id, None)
        if node_id in world.nodes:
            world.end(node_id, "it is wiped", Ending.KILL)
        world.wipe(node_id)

    def _may_lose(self, node_id: str) -> bool:
        world = self._world
        if not world.elected:
            return True
        for first in self._first:
            node = world.nodes.get(first)
            if node is not None and self._formed_at and node.commit >= self._formed_at:
                self._remembering.add(first)
        if node_id in self._first and not self._remembering - {node_id}:
            return False
        return all(self._survives(members, without=node_id) for members in self._possible())

    # -- members ---------------------------------------------------------------------------------

    def _possible(self) -> list[Configuration]:
        """All configurations that are in force somewhere, or may come to be."""
        self._asked = {
            n: members for n, members in self._asked.items() if n not in self._world.clients.excused
        }
        committed = self._committed
        if committed is not None:
            self._appended = {
                command: members
                for command, members in self._appended.items()
                if members.version > committed.version or members == committed
            }
        return [*self._appended.values(), *self._asked.values()]

    def _survives(self, members: Configuration, *, without: str = "") -> bool:
        """Whether a majority has the data directories that it is known by."""
        good = [
            node_id
            for node_id, voter in members.voters.items()
            if node_id != without and self._speaks_for_itself(node_id, voter)
        ]
        return len(good) >= members.majority

    def _speaks_for_itself(self, node_id: str, voter: Participant) -> bool:
        if not voter.incarnation:
            return node_id not in self._lost
        return voter.incarnation == self._world.places[node_id].incarnation

    def _change(self, asked: str) -> None:
        world = self._world
        node = world.nodes[asked]
        if not isinstance(node, Changes) or not node.configuration.voters:
            return
        members = node.configuration
        wish = self._wish(members)
        if wish is None or wish.kind not in node.kinds:
            return
        stale = world.happens(_STALE)
        try:
            made = wish.made_in(members, self._heard_incarnation(wish.node_id))
        except InvalidConfiguration:
            made = members
        if not stale and not self._survives(made):
            return
        if wish.kind == "add" and not self._prepare(wish.node_id, members):
            return
        if asked not in world.nodes:
            return  # it was ended, to come back as another
        call, answer = world.clients.call(asked, Operation.CHANGE)
        self._asked[call.number] = made

        def heard(fate: Fate, index: int, said: str = "") -> None:
            self._asked.pop(call.number, None)
            answer(fate, index, said)

        version = members.version - stale
        node.change(wish.kind, wish.node_id, wish.address, version, heard)

    def _heard_incarnation(self, node_id: str) -> bytes:
        """What a leader may take a learner for: one that was wiped may have been heard before."""
        place = self._world.places[node_id]
        return place.incarnation if place.life == self._added_in_life.get(node_id) else b"?"

    def _wish(self, members: Configuration) -> Wish | None:
        world, rng = self._world, self._world.rng
        participants = members.participants
        for node_id, participant in participants.items():
            address = world.places[node_id].address
            if address != participant.address:
                return Wish("move", node_id, address)
        outside = [n for n in world.ids if n not in participants]
        adds = [Wish("add", n, world.places[n].address) for n in outside]
        promotions = [Wish("promote", n) for n in members.learners]
        removals = [Wish("remove", n) for n in participants]
        if len(members.voters) == self._target:
            self._target = min(rng.choice((1, 2, 3, 3, 4, 5, 5)), len(world.ids))
        if world.happens(_RANDOM):
            return self._relocate(rng.choice(list(participants)))
        if len(members.voters) < self._target:
            wishes = [*promotions, *promotions, *adds]
        else:
            wishes = removals
        return rng.choice(wishes) if wishes else None

    def _relocate(self, node_id: str) -> Wish | None:
        """Move a node to another machine, with its data."""
        world = self._world
        members = self._committed
        if members is None or node_id not in members.participants:
            return None
        places = world.places
        if any(places[n].address != p.address for n, p in members.participants.items()):
            return None  # one after the other: two that have moved cannot find each other
        name, _, port = places[node_id].address.partition(":")
        places[node_id].address = f"{name}:{int(port) + 1}"
        for place in places.values():  # in the settings of all, which each reads at its next start
            if node_id in place.contacts:
                place.contacts = {**place.contacts, node_id: places[node_id].address}
        if node_id in world.nodes:
            world.end(node_id, "it moves", Ending.KILL)
            self._starts[node_id] = world.clock.now + world.rng.uniform(0, 1)
        return Wish("move", node_id, places[node_id].address)

    def _prepare(self, node_id: str, members: Configuration) -> bool:
        """Have a node ready to be added: as it was when it was removed, or with nothing on it.

        One that knows none of the members would let none in. False if it cannot be wiped now, or
        takes part, and only who was asked does not know it.
        """
        world = self._world
        if self._committed is not None and node_id in self._committed.participants:
            return False
        if node_id in self._installed and (
            self._is_strange(node_id, members) or world.happens(0.5)
        ):
            self._wipe(node_id)
            if self._is_strange(node_id, members):
                return False
        place = world.places[node_id]
        place.bootstraps = False
        self._added_in_life[node_id] = place.life
        contacts = {n: p.address for n, p in members.participants.items()}
        knows_some = node_id in self._known_on or place.contacts.keys() & contacts.keys()
        place.contacts = contacts
        self._installed.add(node_id)
        if node_id in world.nodes and not knows_some:
            world.end(node_id, "it is to read its settings", Ending.KILL)
        if node_id not in world.nodes:
            self._starts[node_id] = world.clock.now + world.rng.uniform(0, 1)
        return True

    def _is_strange(self, node_id: str, members: Configuration) -> bool:
        known = self._known_on.get(node_id)
        return known is not None and not known.participants.keys() & members.participants.keys()
