"""Disks that are slow, that fail, and that have no space."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cluster import wait_until

from faults.control import Disturbance
from faults.nodes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from cluster import Node

    from faults.nemesis import Nemesis

PLACES = ("/raft/", "/staging/", "catalog.db", "state.db")
"""Where a node writes; into the folder and the versions it only renames."""


def slow_disk(nemesis: Nemesis) -> None:
    slow = Disturbance(fsync_microseconds=1000 * nemesis.rng.choice((50, 200, 500)))
    nemesis.cluster.disturb(nemesis.anybody().node_id, slow)
    nemesis.last(3.0, 6.0)


def slow_follower_disk(nemesis: Nemesis) -> None:
    slow = Disturbance(fsync_microseconds=500_000)
    nemesis.cluster.disturb(nemesis.follower().node_id, slow)
    nemesis.last(5.0, 8.0)


def fsync_error(nemesis: Nemesis) -> None:
    """EIO at every fsync of one node; then it is started anew on a disk that works again."""
    victim = nemesis.anybody()
    failing = Disturbance(fsync_errno=errno.EIO, fsync_failures=1 << 40)
    nemesis.cluster.disturb(victim.node_id, failing)
    nemesis.last(2.0, 5.0)
    nemesis.cluster.disturb(victim.node_id, Disturbance())
    nemesis.cluster.kill([victim])


def fsync_error_once(nemesis: Nemesis) -> None:
    """One EIO: a node that asks again is told that all is well, which is a lie."""
    victim = nemesis.anybody()
    failing = Disturbance(fsync_errno=errno.EIO, fsync_failures=1)
    nemesis.cluster.disturb(victim.node_id, failing)
    nemesis.last(2.0, 5.0)
    _recovers(victim)


def disk_full(nemesis: Nemesis) -> None:
    """No space on one node's volume; when there is space again, it goes on or is started anew."""
    victim = nemesis.anybody()
    nemesis.cluster.fill_volume(victim.node_id)
    nemesis.last(3.0, 6.0)
    nemesis.cluster.undisturbed()
    _recovers(victim)


def disk_full_in_a_place(nemesis: Nemesis) -> None:
    """No space where a node writes one kind of thing, as if the last block had gone just there."""
    victim = nemesis.anybody()
    nemesis.cluster.disturb(victim.node_id, Disturbance(full=nemesis.rng.choice(PLACES)))
    nemesis.last(3.0, 6.0)
    nemesis.cluster.undisturbed()
    _recovers(victim)


def _recovers(victim: Node) -> None:
    """It may end, as a node does whose log cannot be written; it must not hang about."""
    wait_until(
        lambda: victim.ready() or not victim.running(),
        "the node is ready or ends",
        PATIENCE_SECONDS,
    )


ALL = (
    slow_disk,
    slow_follower_disk,
    fsync_error,
    fsync_error_once,
    disk_full,
    disk_full_in_a_place,
)
