"""Losses of power: a node ends, and its disk loses what was not synced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.unsynced import CUTS

if TYPE_CHECKING:
    from faults.nemesis import Nemesis


def power_loss_of_one(nemesis: Nemesis) -> None:
    _cut(nemesis, 1)


def power_loss_of_a_minority(nemesis: Nemesis) -> None:
    _cut(nemesis, len(nemesis.ids) // 2)


def power_loss_of_all(nemesis: Nemesis) -> None:
    _cut(nemesis, len(nemesis.ids))


def _cut(nemesis: Nemesis, nodes: int) -> None:
    """The leader is among them half of the time."""
    drawn = nemesis.rng.sample(nemesis.ids, nodes)
    if nemesis.rng.random() < 0.5:
        leader = nemesis.leader().node_id
        drawn = [leader, *(node for node in drawn if node != leader)][:nodes]
    cut, seed = nemesis.rng.choice(CUTS), str(nemesis.rng.random())
    nemesis.cluster.cut_power(drawn, cut, seed)
    nemesis.last(0.2, 3.0)


ALL = (power_loss_of_one, power_loss_of_a_minority, power_loss_of_all)
