"""Whom a node keeps links to: the members, whoever was one or may be one, and who was introduced.

A node that was away for a while may lack the configuration with the very leader that has to bring
it up, or know it by a data directory that it has lost since. Whoever knows better tells it whom to
let in; that is nothing to count by, and comes to it with the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.messages import Introduction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pickbox.consensus.messages import Message


class LinkedCore(Protocol):
    """What this needs of the core."""

    @property
    def term(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def committed_configuration(self) -> Configuration: ...
    def set_peers(self, places: Mapping[str, tuple[str, ...]]) -> None: ...
    def send(self, node_id: str, message: Message) -> bool: ...


class Links:
    """Has the transport keep links to those who matter.

    Args:
        contacts: id -> address, as the settings say; whom to listen to while no configuration is
            known.
        at_start: the members that the log had then.
    """

    def __init__(self, core: LinkedCore, contacts: dict[str, str], at_start: Configuration) -> None:
        self._core = core
        self._contacts = contacts
        self._recorded_at_start = {n: p.address for n, p in at_start.participants.items()}
        self._introduced = Configuration()

    def follow_members(self, leaving: Mapping[str, tuple[str, ...]]) -> None:
        """Keep links to the members, to those who are `leaving`, and to who was introduced.

        Who was removed is a member until that is committed: it may lead, and undo the removal.
        """
        known = [self._core.committed_configuration, self._core.configuration]
        if self._has_news:
            known.append(self._introduced)
        participants: dict[str, Participant] = {}
        for members in sorted(known, key=lambda members: members.version):
            participants.update(members.participants)  # the newest knows best where a node is
        places = {n: self._places(n, p.address) for n, p in participants.items()}
        told = {n: (address,) for n, address in self._contacts.items()}
        self._core.set_peers({**leaving, **(places or told)})

    def _places(self, node_id: str, recorded: str) -> tuple[str, ...]:
        """Where to look for a member: where settings and log say, for either may be out of date.

        When all members have moved while they were down, the log cannot know. What it says now and
        did not say at the start is newer than any settings.
        """
        if recorded != self._recorded_at_start.get(node_id):
            return (recorded,)
        return tuple(dict.fromkeys((self._contacts.get(node_id, recorded), recorded)))

    @property
    def _has_news(self) -> bool:
        return self._introduced.version > self._core.committed_configuration.version

    def recognises(self, node_id: str, incarnation: bytes) -> bool:
        """Whether `node_id` may speak from this data directory, by the log or by what it lacks."""
        if self._core.configuration.recognises(node_id, incarnation):
            return True
        introduced = self._introduced
        return (
            self._has_news
            and node_id in introduced.participants
            and introduced.recognises(node_id, incarnation)
        )

    def introduce_members(self, peers: Iterable[str]) -> None:
        """Tell `peers` who the members are, as far as that is committed."""
        core = self._core
        if core.committed_configuration.version:
            introduction = Introduction(core.term, core.committed_configuration.encode())
            for node_id in peers:
                core.send(node_id, introduction)

    def on_introduction(self, members: Configuration) -> bool:
        """Remember `members` if they are news."""
        known = max(self._core.committed_configuration.version, self._introduced.version)
        if members.version <= known:
            return False
        self._introduced = members
        return True
