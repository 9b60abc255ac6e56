"""What a node of the core keeps: the project's own log and snapshots on a disk that forgets."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pickbox.consensus.log import DurableLog
from pickbox.consensus.snapshot_store import SnapshotStore
from simulation.disk import SimulatedDisk
from simulation.events import Appended
from simulation.machine import SimulatedMachine

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from simulation.events import Event
    from simulation.subject import Place

_LOG = "log"
_SNAPSHOTS = "snapshots"


@dataclass(frozen=True, slots=True)
class Image:
    """What a log says: its vote, and the terms of its entries from `first_index` on."""

    term: int = 0
    voted_for: str | None = None
    compacted: tuple[int, int] = (0, 0)
    first_index: int = 1
    terms: tuple[int, ...] = ()

    @classmethod
    def of(cls, log: DurableLog) -> Image:
        vote, state = log.hard_state, log._state  # term by term would take half of a run
        terms = tuple([term for term, _ in state.entries])
        return cls(vote.term, vote.voted_for, log.compacted, log.first_index, terms)

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        return self.terms[position] if 0 <= position < len(self.terms) else None

    def holds(self, index: int, term: int) -> bool:
        return index <= self.compacted[0] or self.term_at(index) == term

    def missing_from(self, found: Image) -> str:
        """What `found` lacks of this; compacted entries may be there or not."""
        if found.term < self.term:
            return f"term {self.term}"
        if found.term == self.term and self.voted_for not in (None, found.voted_for):
            return f"the vote for {self.voted_for} in term {self.term}"
        if found.compacted[0] < self.compacted[0]:
            return f"the snapshot up to {self.compacted[0]}"
        for index in range(self.first_index, self.first_index + len(self.terms)):
            if index > found.compacted[0] and found.term_at(index) != self.term_at(index):
                return f"entry {index} of term {self.term_at(index)}"
        return ""


class WitnessedLog(DurableLog):
    """The real log, watched: what is added is told, what is synced is remembered."""

    keeper: NodeStorage

    def add(self, command: bytes, index: int, term: int) -> None:
        previous: int | None = None
        if index == self.compacted[0] + 1:
            previous = self.compacted[1]
        if len(self) and self.first_index < index:
            previous = self.term_at(index - 1)
        super().add(command, index, term)
        self.keeper.record(Appended(self.keeper.node_id, index, term, previous, command))

    def sync(self) -> None:
        if self.dirty:
            self.keeper.attempted.append(Image.of(self))
        super().sync()
        self.keeper.synced()


class NodeStorage:
    """A node's disk over all of its lives, with the log on it and the state machine.

    What is durable is taken from the disk and not from the log's word: the log's image counts
    when a power cut would leave the directory as it is seen.
    """

    def __init__(self, place: Place) -> None:
        plan = place.plan
        self.node_id = place.node_id
        self.record: Callable[[Event], None] = place.record
        self._segment_bytes = plan.segment_bytes
        self._disk = SimulatedDisk(place.rng)
        self.machine = SimulatedMachine(
            place.node_id, self._disk, place.record, plan.snapshot_padding
        )
        self.durable = Image()
        self.attempted: list[Image] = []
        """What was written since then, and is durable if a power cut leaves all of it."""
        self.log: WitnessedLog | None = None

    def open(self) -> tuple[WitnessedLog, SnapshotStore, str]:
        """The log, the snapshots, and what was durable and is not there any more."""
        store = SnapshotStore(_SNAPSHOTS, self._disk)
        log = WitnessedLog.open(self._disk, _LOG, segment_bytes=self._segment_bytes)
        assert isinstance(log, WitnessedLog)
        log.keeper, self.log = self, log
        found = Image.of(log)
        lost = self.durable.missing_from(found)
        if not all(image.missing_from(found) for image in self.attempted):
            lost = ""
        self.attempted.append(found)
        self.synced()
        return log, store, lost

    def synced(self) -> None:
        """The log has been synced, or says that it needs not be: see what is durable now."""
        if self.attempted and self._disk.settled(_LOG):
            self.durable = self.attempted[-1]
            self.attempted.clear()

    @property
    def durable_term(self) -> int:
        return self.durable.term

    def holds_durably(self, index: int, term: int) -> bool:
        return self.durable.holds(index, term)

    def entries(self, first: int, last: int) -> list[tuple[bytes, int, int]]:
        log = self.log
        if log is None or not len(log):
            return []
        start, end = first - log.first_index, last + 1 - log.first_index
        found: list[Any] = log[max(0, start) : max(0, end)]
        return found

    def terms(self) -> tuple[int, tuple[int, ...]]:
        if self.log is None:
            return 1, ()
        image = Image.of(self.log)
        return image.first_index, image.terms

    # -- misfortune ------------------------------------------------------------------------------

    def end_process(self, rng: random.Random, *, power: bool) -> None:
        self.log = None
        self._disk.end_process()
        if power:
            self._disk.power_up(rng)
            self.machine.lose_power(rng)

    def end_soon(self, rng: random.Random) -> None:
        self._disk.cut_at = self._disk.operations + rng.randint(1, 6)

    def refuse_soon(self, rng: random.Random) -> None:
        self._disk.error = rng.choice((errno.EIO, errno.ENOSPC))
        self._disk.fails_at = self._disk.operations + rng.randint(1, 6)

    @property
    def refuses(self) -> bool:
        return self._disk.refuses

    def relent(self) -> None:
        self._disk.cut_at = self._disk.fails_at = 0

    def refuse_commands(self, *, refused: bool) -> None:
        self.machine.refuses = refused
