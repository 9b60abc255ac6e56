"""Networks in parts, and networks that lose packets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faults.nemesis import Nemesis


def isolate_leader(nemesis: Nemesis) -> None:
    leader = nemesis.leader().node_id
    nemesis.network.separate([leader], nemesis.others(leader))
    nemesis.last(2.0, 6.0)


def isolate_follower(nemesis: Nemesis) -> None:
    """When it is back, whoever leads goes on leading."""
    follower = nemesis.follower().node_id
    nemesis.network.separate([follower], nemesis.others(follower))
    nemesis.last(2.0, 6.0)


def halves(nemesis: Nemesis) -> None:
    nemesis.network.separate(*nemesis.halves())
    nemesis.last(2.0, 6.0)


def bridge(nemesis: Nemesis) -> None:
    """Two sides that reach each other only through one node that both reach."""
    _, *others = nemesis.rng.sample(nemesis.ids, len(nemesis.ids))
    half = len(others) // 2
    nemesis.network.separate(others[:half], others[half:])
    nemesis.last(2.0, 6.0)


def one_way(nemesis: Nemesis) -> None:
    """What the leader sends reaches nobody and it hears everything, or the other way round."""
    leader = nemesis.leader().node_id
    deaf = nemesis.rng.random() < 0.5
    for other in nemesis.others(leader):
        nemesis.network.cut(*((other, leader) if deaf else (leader, other)))
    nemesis.last(2.0, 6.0)


def flapping(nemesis: Nemesis) -> None:
    """Another partition every 200 ms."""
    for _ in range(nemesis.rng.randint(6, 15)):
        nemesis.network.separate(*nemesis.halves())
        time.sleep(0.2)
        nemesis.network.heal()
        time.sleep(0.2)


def loss(nemesis: Nemesis) -> None:
    nemesis.network.lose(nemesis.rng.uniform(0.02, 0.2))
    nemesis.last(3.0, 6.0)


ALL = (isolate_leader, isolate_follower, halves, bridge, one_way, flapping, loss)
