"""What goes wrong in a run, and what is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.world import World


class Nemesis:
    """Ends, stops and cuts off nodes, and makes their disks fail, as often as the plan says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopped_at: dict[str, float] = {}

    def act(self) -> None:
        world, plan, rng = self._world, self._world.plan, self._world.rng
        if world.happens(plan.crash):
            self._strike(rng.choice(world.ids))
        if world.happens(plan.blackout):
            for node_id in world.ids:
                self._strike(node_id)
        if world.happens(plan.pause):
            self._stop_or_continue(rng.choice(world.ids))
        if world.happens(plan.refuse):
            world.storages[rng.choice(world.ids)].refuse_soon(rng)
        if world.happens(plan.indispose):
            world.storages[rng.choice(world.ids)].refuse_commands(refused=True)
        if world.happens(plan.snapshot):
            self._ask_for_snapshot(rng.choice(world.ids))
        if world.happens(plan.heal):
            self._mend_something()
        if len(world.ids) > 1:
            self._disturb_links()

    def _strike(self, node_id: str) -> None:
        """End a node now, or in one of its next writes: then it may have said what it forgets."""
        world = self._world
        if node_id not in world.nodes:
            return
        if world.rng.random() < 0.5:
            world.end(node_id, "struck", world.draw_ending())
        else:
            world.storages[node_id].end_soon(world.rng)

    def _stop_or_continue(self, node_id: str) -> None:
        world = self._world
        if node_id in world.network.paused:
            self._continue(node_id)
        elif node_id in world.nodes:
            world.network.paused.add(node_id)
            self._stopped_at[node_id] = world.clock.now

    def _continue(self, node_id: str) -> None:
        """First the node ends the turn that it was stopped in, with the time that it had then."""
        world = self._world
        world.network.paused.discard(node_id)
        watch = world.places[node_id].watch
        watch.lag = world.clock.now - self._stopped_at[node_id]
        world.tick(node_id)
        watch.lag = 0.0

    def _ask_for_snapshot(self, node_id: str) -> None:
        node: Any = self._world.nodes.get(node_id)
        if node is not None and hasattr(node, "make_snapshot"):
            node.make_snapshot()

    def _disturb_links(self) -> None:
        world, plan = self._world, self._world.plan
        network = world.network
        one, other = world.rng.sample(world.ids, 2)
        if world.happens(plan.part):
            network.part(one, other)
        if world.happens(plan.cut):
            network.links[one, other].cut = True
        if world.happens(plan.hold):
            network.links[one, other].held = True
        if world.happens(plan.reset):
            network.reset(one, other)
        if world.happens(plan.split):
            self._split()

    def _split(self) -> None:
        """Divide the nodes in two: all see that they have lost each other, or none does."""
        world = self._world
        network, rng = world.network, world.rng
        side = set(rng.sample(world.ids, rng.randint(1, len(world.ids) // 2)))
        seen = rng.random() < 0.5
        for (one, other), link in network.links.items():
            if (one in side) != (other in side):
                if seen:
                    network.part(one, other)
                else:
                    link.cut = True

    def _mend_something(self) -> None:
        world = self._world
        for node_id in world.ids:
            if world.rng.random() < 0.5:
                world.storages[node_id].relent()
                world.storages[node_id].refuse_commands(refused=False)
        for node_id in sorted(world.network.paused):
            if world.rng.random() < 0.5:
                self._continue(node_id)
        world.administrator.restart_some(0.7)
        for (one, other), link in world.network.links.items():
            if world.rng.random() < 0.5:
                link.cut = link.held = False
                world.network.join(one, other)

    def relent(self) -> None:
        """End all faults."""
        world = self._world
        world.network.heal()
        for storage in world.storages.values():
            storage.relent()
            storage.refuse_commands(refused=False)
        for node_id in sorted(world.network.paused):
            self._continue(node_id)
