"""Which commands may be proposed: those that every member understands (`pickbox.levels`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pickbox.changes import Raise
from pickbox.codec import DecodeError, decode_command, level_of
from pickbox.errors import LevelTooLow, NoLeader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pickbox.changes import Change


def refuse_too_new(changes: Iterable[Change], level: int) -> None:
    """See that a cluster at `level` may use `changes`.

    Raises:
        LevelTooLow: not before the upgrade is finished.
    """
    needed = max(_levels(changes), default=0)
    if needed > level:
        raise LevelTooLow(
            f"this needs level {needed}, and the cluster is at level {level}: finish the upgrade "
            "first (`pickbox upgrade finish`)"
        )


def refuse_unready(command: bytes, level: int) -> None:
    """See, as the leader of a cluster at `level`, that a peer's `command` may go into the log.

    Whoever proposed it has seen to that. But this node may be an older release, or may not have
    applied yet what the peer has.

    Raises:
        NoLeader: not by this node now; nothing was appended.
    """
    if level_of(command) <= level:
        return
    try:
        submissions = decode_command(command)
    except DecodeError as error:
        raise NoLeader(f"the leader does not understand the change: {error}") from error
    needed = max(_levels(change for s in submissions for change in s.changes), default=0)
    if needed > level:
        raise NoLeader(f"the change is of level {needed}, and the leader is at level {level} yet")


def _levels(changes: Iterable[Change]) -> Iterable[int]:
    """Of all but a raise, which brings its own."""
    return (change.level for change in changes if not isinstance(change, Raise))
