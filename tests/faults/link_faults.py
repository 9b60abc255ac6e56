"""Links that are late, narrow, stuck or cut, while packets get through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from faults.proxy import PERFECT, Conditions

if TYPE_CHECKING:
    from faults.nemesis import Nemesis


def slow_links(nemesis: Nemesis) -> None:
    """100 ms with a jitter of 50 ms between all nodes, and one piece in twenty sent again."""
    for link in nemesis.network.links.all():
        link.conditions = Conditions(delay=0.1, jitter=0.05, loss=0.05)
    nemesis.last(4.0, 8.0)


def uneven_links(nemesis: Nemesis) -> None:
    """Every link is another."""
    for link in nemesis.network.links.all():
        delay = nemesis.rng.choice((0.0, 0.01, 0.05, 0.2))
        link.conditions = Conditions(delay, jitter=delay / 2, loss=nemesis.rng.choice((0.0, 0.1)))
    nemesis.last(4.0, 8.0)


def slow_follower(nemesis: Nemesis) -> None:
    """A follower's links carry 1 MB/s, or less than is written."""
    follower = nemesis.follower().node_id
    rate = nemesis.rng.choice((1e6, 2e5, 5e4))
    for link in nemesis.network.links.between([follower], nemesis.others(follower)):
        link.conditions = Conditions(rate=rate)
    nemesis.last(5.0, 8.0)


def stuck_links(nemesis: Nemesis) -> None:
    """Nothing comes through a node's links and none is cut; then everything comes at once."""
    node = nemesis.anybody().node_id
    stuck = nemesis.network.links.between([node], nemesis.others(node))
    for _ in range(nemesis.rng.randint(1, 3)):
        for link in stuck:
            link.conditions = Conditions(stuck=True)
        nemesis.last(0.3, 3.0)
        for link in stuck:
            link.conditions = PERFECT
        nemesis.last(0.1, 1.0)


def cut_links(nemesis: Nemesis) -> None:
    """Connections of drawn links are reset again and again."""
    links = nemesis.network.links
    for _ in range(nemesis.rng.randint(5, 12)):
        links.cut(nemesis.rng.sample(links.all(), len(links.all()) // 2))
        time.sleep(0.3)


ALL = (slow_links, uneven_links, slow_follower, stuck_links, cut_links)
