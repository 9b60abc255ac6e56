"""One run: a cluster, its clients and its misfortunes, step by step."""

from __future__ import annotations

import gc
import logging
import random
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.administrator import Administrator
from simulation.clients import Clients
from simulation.clock import Clock, Watch
from simulation.disk import PowerCut
from simulation.events import (
    Committed,
    Ended,
    Ending,
    Event,
    Failed,
    Fate,
    Forgot,
    Led,
    Stood,
    Stopped,
    Wiped,
)
from simulation.invariants import Invariants, Violation
from simulation.nemesis import Nemesis
from simulation.network import Network
from simulation.subject import Node, Place, Storage, Subject, controlled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.swarm import Plan

_CALM_STEPS = 800
_CALM_STEP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    violations: list[Violation]
    events: list[Event]
    steps: int


@dataclass(slots=True)
class Seen:
    """What was last seen of a running node."""

    stands: tuple[int, int, int, int] | None = None
    committed: int = 0
    led: int = -1


@dataclass
class World:
    """A cluster under a plan. The same plan gives the same events, in every process.

    Attributes:
        ids: all nodes that there may be; the first `plan.voters` begin the cluster.
        nodes: those that run, paused ones too.
        elected: whether there ever was a leader.
    """

    subject: Subject
    plan: Plan
    directory: str
    nodes: dict[str, Node] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    steps: int = 0
    elected: bool = False

    def __post_init__(self) -> None:
        plan = self.plan
        self.rng = random.Random(f"world {plan.seed}")
        self.clock = Clock()
        self.ids = [chr(ord("a") + position) for position in range(plan.voters + plan.spares)]
        self.network = Network(
            self.ids, plan.weather, self.rng, mutual=plan.mutual, within=self.within
        )
        self.invariants = Invariants()
        self._seen: dict[str, Seen] = {}
        self._decided = 0
        self.places = {node_id: self._place(node_id) for node_id in self.ids}
        self.storages: dict[str, Storage] = {
            node_id: self.subject.furnish(place) for node_id, place in self.places.items()
        }
        self._former: dict[str, list[Storage]] = {node_id: [] for node_id in self.ids}
        self.clients = Clients(self)
        self.administrator = Administrator(self)
        self.nemesis = Nemesis(self)

    def _place(self, node_id: str) -> Place:
        plan, rng = self.plan, random.Random(f"{node_id} {self.plan.seed}")
        return Place(
            node_id,
            plan,
            self.ids[: plan.voters],
            self.network,
            self.clock,
            rng,
            self.record,
            self.directory,
            address=f"{node_id}:1",
            watch=Watch(rng.uniform(0, 1000), 1 + plan.skew * rng.uniform(-1, 1)),
        )

    def record(self, event: Event) -> None:
        self.events.append(event)
        self.invariants.see(event)
        self.administrator.see(event)

    def happens(self, rate: float) -> bool:
        return rate > 0 and self.rng.random() < rate

    @property
    def awake(self) -> list[str]:
        """The nodes that run and are not paused."""
        return [node_id for node_id in self.nodes if node_id not in self.network.paused]

    # -- steps -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        seed = self.plan.seed
        with (
            controlled(self.clock, random.Random(f"library {seed}")),
            self.subject.scaled(self.plan),
        ):
            for _ in range(self.plan.steps):
                self.nemesis.act()
                self.administrator.act()
                self.clients.act()
                self.step(self.plan.step_seconds)
                if self.invariants.violations:
                    break
            else:
                self._calm_down()
            for node in self.nodes.values():
                node.close()
        return Outcome(self.invariants.violations, self.events, self.steps)

    def step(self, seconds: float) -> None:
        self.steps += 1
        self.clock.now += seconds
        self.network.now = self.clock.now
        self.network.reconcile()
        self.network.deliver()
        awake = self.awake
        self.rng.shuffle(awake)
        for node_id in awake:
            self.tick(node_id)

    def tick(self, node_id: str) -> None:
        """One turn of a node; nothing if another's end has taken it down."""
        node = self.nodes.get(node_id)
        if node is not None:
            with self.within(node_id):
                node.tick()

    @contextmanager
    def within(self, node_id: str) -> Iterator[None]:
        """Let a node do something, by its own clock; see what it did, and whether it ends by it."""
        try:
            with self.clock.seen_by(self.places[node_id].watch):
                yield
        except PowerCut:
            self._observe(node_id)
            self.end(node_id, "in the middle of a write", self.draw_ending())
        except Exception as error:
            if self.storages[node_id].refuses:
                self.end(node_id, str(error), Ending.REFUSAL)
            else:
                self.record(Failed(node_id, f"{type(error).__name__}: {error}"))
                self.end(node_id, str(error), Ending.FAILURE)
        else:
            self._observe(node_id)

    # -- what is seen ----------------------------------------------------------------------------

    def _observe(self, node_id: str) -> None:
        node = self.nodes.get(node_id)
        if node is None:
            return
        self.observe_commits(node_id)
        seen = self._seen[node_id]
        stands = node.term, node.commit, node.applied, node.state
        if stands != seen.stands:
            seen.stands = stands
            self.record(Stood(node_id, *stands))
        if node.leads and seen.led != node.term:
            seen.led = node.term
            self.elected = True
            first_index, terms = self.storages[node_id].terms()
            life = self.places[node_id].life
            self.record(Led(node_id, node.term, first_index, terms, life))

    def observe_commits(self, node_id: str) -> None:
        """Tell what a node has come to count as committed."""
        node, seen = self.nodes[node_id], self._seen[node_id]
        commit = node.commit
        if commit <= seen.committed:
            return
        entries = self.storages[node_id].entries(seen.committed + 1, commit)
        seen.committed = commit
        for command, index, term in entries:
            first = index > self._decided
            self._decided = max(self._decided, index)
            holders = self._holders(index, term) if first else ()
            voters = tuple(sorted(node.voters)) if first else ()
            self.record(Committed(node_id, index, term, command, node.term, holders, voters))

    def _holders(self, index: int, term: int) -> tuple[str, ...]:
        """On whose disks an entry is for certain, or was: one that is wiped has had it."""
        return tuple(
            node_id
            for node_id, storage in self.storages.items()
            if any(s.holds_durably(index, term) for s in (storage, *self._former[node_id]))
        )

    # -- beginnings and ends ---------------------------------------------------------------------

    def start(self, node_id: str) -> None:
        """Start a node that does not run."""
        if node_id in self.nodes:
            return
        place, storage = self.places[node_id], self.storages[node_id]
        self._seen[node_id] = Seen()
        with self.within(node_id):
            node = self.subject.start(place, storage)
            self.nodes[node_id] = self.network.endpoints[node_id] = node

    def draw_ending(self) -> Ending:
        """A power cut or a kill, as often as the plan has it."""
        return Ending.POWER_CUT if self.happens(self.plan.power) else Ending.KILL

    def end(self, node_id: str, why: str, how: Ending) -> None:
        """End a node's process."""
        node = self.nodes.pop(node_id, None)
        if node is not None:
            if self.rng.random() < 0.5:
                self.network.flush(node_id)
            self.network.leave(node_id)
            self.clients.excuse(node_id)
            node.close()
        storage = self.storages[node_id]
        storage.end_process(self.rng, power=how is Ending.POWER_CUT)
        self.record(Stopped(node_id, how, why))
        self.record(Forgot(node_id, storage.durable_term))

    def wipe(self, node_id: str) -> None:
        """Lose a node's data directory; the node must not run."""
        place = self.places[node_id]
        place.life += 1
        self._former[node_id].append(self.storages[node_id])
        self.storages[node_id] = self.subject.furnish(place)
        self.record(Forgot(node_id, 0))
        self.record(Wiped(node_id))

    # -- the end ---------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """End all faults, and give the cluster time to become one again and to take a write."""
        self.nemesis.relent()
        self.administrator.settle()
        write = None
        for step in range(_CALM_STEPS):
            self.step(_CALM_STEP_SECONDS)
            if step < 20 or step % 10:
                continue
            if write is None or write.fate in (Fate.REFUSED, Fate.UNKNOWN):
                write = self.clients.write_to_leader()
            elif write.fate is Fate.DONE and self._is_calm(write.index):
                break
        members = self.administrator.members_in_good_standing()
        self.record(
            Ended(
                write.node if write is not None and write.fate is Fate.DONE else None,
                {n: self.nodes[n].applied for n in members},
                {n: self.nodes[n].state for n in members},
                frozenset(self.clients.excused),
            )
        )

    def _is_calm(self, done: int) -> bool:
        """One leads, nobody waits, and all are equally far: not only as far as before `done`."""
        members = [self.nodes[n] for n in self.administrator.members_in_good_standing()]
        stands = {(n.commit, n.applied, n.state) for n in members}
        leaders = sum(n.leads for n in members)
        news = all(n.applied >= done for n in members)
        return leaders == 1 and len(stands) == 1 and news and not self.clients.waiting


@contextmanager
def _quiet() -> Iterator[None]:
    """No log of the subject's, and no collection of garbage in the middle of a run."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what is there already needs no look at the end
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()  # nodes are cycles, and hold file descriptors
        gc.unfreeze()
        logging.disable(before)


def simulate(subject: Subject, plan: Plan) -> Outcome:
    """Run `plan` to its end."""
    with _quiet(), tempfile.TemporaryDirectory() as directory:
        return World(subject, plan, directory).run()
