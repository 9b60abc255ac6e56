"""Who takes part in the cluster, as its log says, and how that may change."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster. `address` is host:port of its log and content, over mutual TLS.

    Attributes:
        voter: whether it is counted; a learner gets the log and votes on nothing.
        places: where to look for it, likeliest first: settings or log may be out of date.
    """

    node_id: str
    address: str
    voter: bool = True
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.places:
            object.__setattr__(self, "places", (self.address,))


@dataclass(frozen=True, slots=True)
class Members:
    """Who takes part, as the log says. `version` grows with each change; 0: not told yet."""

    version: int = 0
    nodes: tuple[Member, ...] = ()

    @property
    def voters(self) -> tuple[str, ...]:
        """Ids of the nodes that are counted, sorted."""
        return tuple(member.node_id for member in self.nodes if member.voter)

    @property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return len(self.voters) // 2 + 1

    def get(self, node_id: str) -> Member | None:
        """The member of that id."""
        return next((member for member in self.nodes if member.node_id == node_id), None)


class MemberChange(enum.Enum):
    """What can be done to one member; each is one entry of the log."""

    ADD = "add"
    """Send it the log, as a learner."""
    PROMOTE = "promote"
    """Count it: from learner to voter."""
    DEMOTE = "demote"
    """Count it no more: from voter to learner."""
    MOVE = "move"
    """Reach it at another address."""
    REMOVE = "remove"
    """Let it take no part any more."""
