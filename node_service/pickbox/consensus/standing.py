"""Whether this node may take part: a removed, wiped or diverged one says so and does not lead."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.consensus.messages import Removed
from pickbox.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.library import Identity
    from pickbox.consensus.links import Links
    from pickbox.consensus.messages import Message

log = logging.getLogger(__name__)

_FAREWELL_SECONDS: Final = 1.0
"""How long the link to a removed node stays, so that it hears that it was removed."""


class StandingCore(Protocol):
    """What this needs of the core."""

    identity: Identity
    links: Links

    @property
    def leads(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def committed_configuration(self) -> Configuration: ...
    def now(self) -> float: ...
    def send(self, node_id: str, message: Message) -> bool: ...
    def connect_members(self) -> None: ...
    def step_aside(self) -> None: ...


class Standing:
    """Why this node may not take part; empty if it may.

    Args:
        tell: called with the reason whenever it changes.
    """

    def __init__(self, core: StandingCore, tell: Callable[[str], None]) -> None:
        self._core = core
        self._tell = tell
        self._leaving: dict[str, tuple[str, float]] = {}
        self._for_good = False
        self.reason = ""

    @property
    def leaving(self) -> dict[str, tuple[str, ...]]:
        """Nodes that were just removed: id -> places. They are still listened to."""
        return {node_id: (address,) for node_id, (address, _) in self._leaving.items()}

    def set(self, reason: str, *, for_good: bool = False) -> None:
        """This node may take part no more, for this reason; with an empty one, it may again.

        Not so if an earlier reason was `for_good`: no change of the members ends that one.
        """
        if reason != self.reason and not self._for_good:
            self._for_good = for_good
            self.reason = reason
            if reason:
                log.error("node_stands_aside", extra={"fields": {"why": reason}})
            self._tell(reason)

    def configuration_committed(self, before: Configuration, after: Configuration) -> None:
        """The members changed for good."""
        failpoint("configuration_before_apply")
        core, own = self._core, self._core.identity
        mine = after.participants.get(own.node_id)
        if mine is not None and mine.incarnation == own.incarnation:
            self.set("")
        for node_id in before.participants.keys() - after.participants.keys():
            if node_id == own.node_id:
                self.set(f"this node was removed by version {after.version} of the members")
                if core.leads:
                    core.step_aside()
            elif core.leads:
                address = before.participants[node_id].address
                self._leaving[node_id] = (address, core.now() + _FAREWELL_SECONDS)
                core.connect_members()
                core.send(node_id, Removed(core.term, after.version))

    def tick(self) -> None:
        """Let go of the links to nodes that have left."""
        now = self._core.now()
        gone = [node_id for node_id, (_, until) in self._leaving.items() if until <= now]
        if gone:
            for node_id in gone:
                del self._leaving[node_id]
            self._core.connect_members()

    def on_removed(self, message: Removed) -> None:
        """A member says that a later configuration than this node has is without it."""
        if message.version > self._core.committed_configuration.version:
            self.set(f"this node was removed by version {message.version} of the members")

    def on_unrecognised(self, sender: str) -> None:
        """`sender` knows this node's id with another data directory; it may not know the latest."""
        own = self._core.identity
        mine = self._core.committed_configuration.participants.get(own.node_id)
        if mine is not None and mine.incarnation == own.incarnation:
            self._core.links.introduce_members([sender])
        else:
            self.set(
                "the cluster knows this node's id with another data directory: remove the node "
                "from the cluster and add it again"
            )
