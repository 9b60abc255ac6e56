"""Nodes that die, and nodes that hang and go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faults.nemesis import Nemesis


def kill_leader(nemesis: Nemesis) -> None:
    nemesis.cluster.kill([nemesis.leader()])
    nemesis.last()


def kill_follower(nemesis: Nemesis) -> None:
    nemesis.cluster.kill([nemesis.follower()])
    nemesis.last()


def kill_all(nemesis: Nemesis) -> None:
    nemesis.cluster.kill(nemesis.cluster)
    nemesis.last(0.1, 1.0)


def start_late(nemesis: Nemesis) -> None:
    """All die, and come back one by one in any order."""
    nemesis.cluster.kill(nemesis.cluster)
    for node_id in nemesis.rng.sample(nemesis.ids, len(nemesis.ids)):
        time.sleep(nemesis.rng.uniform(0.0, 2.0))
        nemesis.cluster[node_id].start()


def pause_leader(nemesis: Nemesis) -> None:
    """SIGSTOP for less and for more than an election takes; then it goes on as if nothing was."""
    leader = nemesis.leader()
    nemesis.cluster.pause(leader)
    nemesis.last(0.5, 8.0)
    leader.resume()
    nemesis.last(0.5, 1.5)


def pause_follower(nemesis: Nemesis) -> None:
    follower = nemesis.follower()
    nemesis.cluster.pause(follower)
    nemesis.last(0.5, 8.0)
    follower.resume()
    nemesis.last(0.5, 1.5)


ALL = (kill_leader, kill_follower, kill_all, start_late, pause_leader, pause_follower)
