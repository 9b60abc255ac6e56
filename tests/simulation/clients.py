"""The clients of a simulated cluster: what they ask, and what they hear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation.events import Answered, Called, Fate, Operation
from simulation.subject import Reads, Transfers

if TYPE_CHECKING:
    from simulation.subject import Answer
    from simulation.world import World


@dataclass(slots=True)
class Call:
    """What was asked of a node, and what was heard: `index` is the entry of a done write."""

    number: int
    node: str
    fate: Fate | None = None
    index: int = 0


class Clients:
    """Those who write, read, and ask for another leader."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calls = 0
        self._open: dict[int, Call] = {}
        self.excused: set[int] = set()

    def act(self) -> None:
        world, plan = self._world, self._world.plan
        if not world.nodes:
            return
        whole, part = divmod(plan.write, 1.0)
        for _ in range(int(whole) + world.happens(part)):
            self._write(self.someone())
        if world.happens(plan.read):
            self._read(self.someone())
        if world.happens(plan.transfer):
            self._transfer(self.someone())

    def someone(self) -> str:
        """Mostly a node that says it leads; it may be one that is paused."""
        world = self._world
        leaders = [n for n, node in world.nodes.items() if node.leads]
        return world.rng.choice(leaders if leaders and world.happens(0.8) else list(world.nodes))

    def _write(self, node_id: str) -> Call:
        world = self._world
        node = world.nodes[node_id]
        command = world.subject.command(node, b"w%d" % (self._calls + 1))
        call, answer = self.call(node_id, Operation.WRITE, command)
        node.propose(command, answer)
        return call

    def _read(self, node_id: str) -> None:
        node = self._world.nodes[node_id]
        if isinstance(node, Reads):
            node.read(self.call(node_id, Operation.READ)[1])

    def _transfer(self, node_id: str) -> None:
        world = self._world
        node = world.nodes[node_id]
        if isinstance(node, Transfers):
            target = world.rng.choice([None, *world.ids])
            _, answer = self.call(node_id, Operation.TRANSFER)
            node.transfer(target, world.rng.uniform(0.1, 2.0), answer)

    def write_to_leader(self) -> Call | None:
        """One more write, to a node that says it leads, if there is one."""
        leaders = [n for n, node in self._world.nodes.items() if node.leads]
        return self._write(leaders[0]) if leaders else None

    # -- who waits -------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    def excuse(self, node_id: str) -> None:
        """A node has died: who asked it hears no more."""
        for number in [n for n, call in self._open.items() if call.node == node_id]:
            del self._open[number]
            self.excused.add(number)

    def call(self, node_id: str, operation: Operation, command: bytes = b"") -> tuple[Call, Answer]:
        """A new call of a node, and how its answer is given."""
        self._calls += 1
        world, call = self._world, Call(self._calls, node_id)
        self._open[call.number] = call
        term = world.nodes[node_id].term
        world.record(Called(call.number, node_id, operation, command, term))

        def answer(fate: Fate, index: int, said: str = "") -> None:
            if call.number in self.excused:
                return  # the process is gone: nobody hears what its end says
            self._open.pop(call.number, None)
            call.fate, call.index = fate, index
            world.observe_commits(node_id)
            world.record(Answered(call.number, fate, index, said))

        return call, answer
