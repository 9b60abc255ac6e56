"""Who takes part: one record, whole in each log entry that changes it, in force from its append.

A configuration is never a difference to the one before, so that truncating the log, compacting it
or booting from it cannot leave a node with a view that no entry says.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Mapping


class InvalidConfiguration(Exception):
    """The bytes are no configuration, or the change makes none."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Where a node listens, and which data directory speaks for it.

    `incarnation` is empty only until the first leader of a new cluster has heard from the node.
    """

    address: str
    incarnation: bytes = b""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a cluster at one point of the log.

    Attributes:
        version: grows by one with each change; 0 is a node that has not been told yet.
        voters: by node id; a majority of them commits and elects.
        learners: by node id; they get the log and are never counted.
    """

    version: int = 0
    cluster_id: str = ""
    voters: Mapping[str, Participant] = field(default_factory=dict)
    learners: Mapping[str, Participant] = field(default_factory=dict)

    @property
    def participants(self) -> dict[str, Participant]:
        """Voters and learners."""
        return {**self.voters, **self.learners}

    @property
    def majority(self) -> int:
        """How many voters commit an entry."""
        return len(self.voters) // 2 + 1

    @property
    def knows_its_voters(self) -> bool:
        """Whether it records which data directory speaks for each voter."""
        return all(voter.incarnation for voter in self.voters.values())

    @property
    def votes_to_lead(self) -> int:
        """How many voters elect a leader: all of them, as long as one may still be an impostor.

        A new cluster does not know its voters' data directories. If a majority of unknown ones
        were enough, a wiped node and one that never started could elect a second first leader.
        """
        return self.majority if self.knows_its_voters else len(self.voters)

    def recognises(self, node_id: str, incarnation: bytes) -> bool:
        """False if `node_id` is recorded with another data directory than `incarnation`."""
        known = self.voters.get(node_id) or self.learners.get(node_id)
        return known is None or known.incarnation in (b"", incarnation)

    def with_incarnations(self, seen: Mapping[str, bytes]) -> Configuration:
        """The next version, with the data directories of voters recorded where they were not."""
        voters = {
            node_id: replace(voter, incarnation=voter.incarnation or seen.get(node_id, b""))
            for node_id, voter in self.voters.items()
        }
        return replace(self, version=self.version + 1, voters=voters)

    def with_learner(self, node_id: str, participant: Participant) -> Configuration:
        """The next version, with `node_id` as a learner.

        Raises:
            InvalidConfiguration: it takes part already.
        """
        if node_id in self.participants:
            raise InvalidConfiguration(f"{node_id} takes part already: remove it first")
        learners = {**self.learners, node_id: participant}
        return replace(self, version=self.version + 1, learners=learners)

    def with_voter(self, node_id: str, incarnation: bytes) -> Configuration:
        """The next version, with the learner `node_id` as a voter.

        Raises:
            InvalidConfiguration: it is no learner.
        """
        if node_id not in self.learners:
            raise InvalidConfiguration(f"{node_id} is not a learner: add it as one first")
        learners = dict(self.learners)
        participant = replace(learners.pop(node_id), incarnation=incarnation)
        voters = {**self.voters, node_id: participant}
        return replace(self, version=self.version + 1, voters=voters, learners=learners)

    def with_demoted(self, node_id: str) -> Configuration:
        """The next version, with the voter `node_id` as a learner.

        Raises:
            InvalidConfiguration: it is no voter, or the only one.
        """
        if node_id not in self.voters:
            raise InvalidConfiguration(f"{node_id} is not a voter")
        without = self.without(node_id)
        learners = {**without.learners, node_id: self.voters[node_id]}
        return replace(without, learners=learners)

    def with_address(self, node_id: str, address: str) -> Configuration:
        """The next version, with `node_id` at another address.

        Raises:
            InvalidConfiguration: it takes no part.
        """
        if node_id not in self.participants:
            raise InvalidConfiguration(f"{node_id} is not a member: add it as a learner first")
        voters, learners = (
            {n: replace(p, address=address) if n == node_id else p for n, p in group.items()}
            for group in (self.voters, self.learners)
        )
        return replace(self, version=self.version + 1, voters=voters, learners=learners)

    def without(self, node_id: str) -> Configuration:
        """The next version, without `node_id`.

        Raises:
            InvalidConfiguration: it takes no part, or is the only voter.
        """
        if node_id not in self.participants:
            raise InvalidConfiguration(f"{node_id} is not a member")
        voters = {n: p for n, p in self.voters.items() if n != node_id}
        if not voters:
            raise InvalidConfiguration(f"{node_id} is the only voter: promote another one first")
        learners = {n: p for n, p in self.learners.items() if n != node_id}
        return replace(self, version=self.version + 1, voters=voters, learners=learners)

    def encode(self) -> bytes:
        """The record as msgpack; equal configurations give equal bytes."""
        groups = [
            [[n, p.address, p.incarnation] for n, p in sorted(group.items())]
            for group in (self.voters, self.learners)
        ]
        packed: bytes = msgpack.packb([self.version, self.cluster_id, *groups])
        return packed

    @classmethod
    def decode(cls, packed: bytes) -> Configuration:
        """Read what `encode` wrote.

        Raises:
            InvalidConfiguration: it did not write this.
        """
        try:
            version, cluster_id, voters, learners = msgpack.unpackb(packed)
            return cls(int(version), str(cluster_id), _group(voters), _group(learners))
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidConfiguration(f"not a configuration record: {error}") from error


def _group(items: list[Any]) -> dict[str, Participant]:
    return {str(n): Participant(str(address), bytes(tag)) for n, address, tag in items}


class ConfigurationHistory:
    """The configurations that the log and the snapshot before it hold, by the index of each."""

    def __init__(self, base: Configuration, base_index: int = 0) -> None:
        self._indexes = [base_index]
        self._configurations = [base]

    @property
    def current(self) -> Configuration:
        """The one in force: the last that was appended."""
        return self._configurations[-1]

    @property
    def current_index(self) -> int:
        """The index of the entry that holds the one in force."""
        return self._indexes[-1]

    def at(self, index: int) -> Configuration:
        """The one in force when entry `index` was the last."""
        position = max(0, bisect_right(self._indexes, index) - 1)
        return self._configurations[position]

    def append(self, index: int, configuration: Configuration) -> None:
        self._indexes.append(index)
        self._configurations.append(configuration)

    def truncate_from(self, index: int) -> bool:
        """Forget the entries from `index` on; whether another one is in force now."""
        before = len(self._indexes)
        while len(self._indexes) > 1 and self._indexes[-1] >= index:
            self._indexes.pop()
            self._configurations.pop()
        return len(self._indexes) != before

    def compact_to(self, index: int) -> None:
        """Forget what was in force before `index`."""
        while len(self._indexes) > 1 and self._indexes[1] <= index:
            del self._indexes[0], self._configurations[0]
