"""What is done to a cluster: faults by name, each drawn from a seed, each undone again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from faults import (
    clock_faults,
    disk_faults,
    link_faults,
    network_faults,
    power_faults,
    process_faults,
)

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Iterable

    from cluster import Node

    from faults.nodes import IsolatedCluster

    Fault = Callable[["Nemesis"], None]


class Nemesis:
    """Inflicts faults on a cluster, one after the other."""

    def __init__(self, cluster: IsolatedCluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.network = cluster.network
        self.rng = rng
        self.ids = list(cluster.nodes)

    def inflict(self, name: str) -> Counter[str]:
        """One fault from its beginning to its end; the cluster is whole again afterwards.

        Returns:
            What was done, counted where it takes effect; a fault without any was none.
        """
        before = self.cluster.effects()
        try:
            FAULTS[name](self)
            return self.cluster.effects() - before
        finally:
            self.cluster.undisturbed()
            self.cluster.heal()

    def last(self, shortest: float = 1.5, longest: float = 5.0) -> None:
        """Let the fault last a while, drawn."""
        time.sleep(self.rng.uniform(shortest, longest))

    def leader(self) -> Node:
        """Who leads now."""
        return self.cluster.leader()

    def follower(self) -> Node:
        """Somebody who does not lead now, drawn."""
        return self.rng.choice(self.cluster.followers())

    def anybody(self) -> Node:
        """A node, drawn."""
        return self.cluster[self.rng.choice(self.ids)]

    def halves(self) -> tuple[list[str], list[str]]:
        """A minority and the majority, drawn."""
        drawn = self.rng.sample(self.ids, len(self.ids))
        return drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]

    def others(self, node_id: str) -> list[str]:
        """All nodes but one."""
        return [node for node in self.ids if node != node_id]


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__: fault for fault in faults}


LINKS = _named(*link_faults.ALL)
"""These need links through the harness."""
POWER = _named(*power_faults.ALL)
"""These need volumes whose power can be cut."""
FAULTS = {
    **_named(*process_faults.ALL, *network_faults.ALL, *disk_faults.ALL, *clock_faults.ALL),
    **LINKS,
    **POWER,
}
SPARING = {fault.__name__ for fault in (link_faults.slow_follower, disk_faults.slow_follower_disk)}
"""One follower is slow: the others go on as if nothing was."""


def needs_links(names: Iterable[str]) -> bool:
    """Whether one of these faults is of a link."""
    return not LINKS.keys().isdisjoint(names)


def needs_power(names: Iterable[str]) -> bool:
    """Whether one of these faults is a loss of power."""
    return not POWER.keys().isdisjoint(names)
