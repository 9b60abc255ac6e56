"""What a directory of segments says, read from the first one to the last."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pickbox.consensus.log.records import RECORD_HEADER, Record, RecordType
from pickbox.consensus.log.segment import (
    LogDamaged,
    Scan,
    Segment,
    open_segment,
    scan,
    segment_name,
    segment_numbers,
)

if TYPE_CHECKING:
    from pickbox.consensus.log.disk import Disk


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must never forget: its term, and whom it voted for in it."""

    term: int = 0
    voted_for: str | None = None


class Place(NamedTuple):
    """Where an entry's record is: segment number, offset and length in bytes."""

    segment: int
    offset: int
    length: int


@dataclass(slots=True)
class LogState:
    """What the records say, one after the other.

    Attributes:
        entries: term and place of each entry, from `first_index` on.
        compacted: index and term up to which a snapshot holds everything; 0 if none does.
    """

    first_index: int = 1
    entries: list[tuple[int, Place]] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)
    commit: int = 0
    compacted: tuple[int, int] = (0, 0)

    @property
    def last_index(self) -> int:
        """Index of the last entry; `first_index` - 1 if there is none."""
        return self.first_index + len(self.entries) - 1

    def add(self, index: int, term: int, place: Place) -> None:
        """An entry, which must follow the last one.

        Raises:
            ValueError: it does not.
        """
        entries = self.entries
        if not entries:
            self.first_index = index
        elif index != self.first_index + len(entries):
            raise ValueError(f"entry {index} after entry {self.last_index}")
        entries.append((term, place))

    def truncate_from(self, index: int) -> None:
        """Forget the entries from `index` on."""
        del self.entries[max(0, index - self.first_index) :]

    def compact_to(self, index: int, term: int) -> None:
        """A snapshot holds everything up to entry `index`.

        If another entry is there, or none, the log begins anew after it.
        """
        self.compacted = (index, term)
        at = index - self.first_index
        if at >= len(self.entries) or (at >= 0 and self.entries[at][0] != term):
            self.entries.clear()
            self.first_index = index + 1

    def drop_before(self, index: int) -> None:
        """Forget the entries before `index`."""
        count = max(0, min(index - self.first_index, len(self.entries)))
        del self.entries[:count]
        self.first_index += count

    def take(self, record: Record, segment: int) -> None:
        """Take in what `record` says.

        Raises:
            ValueError: it cannot follow what was before it.
        """
        match record.type:
            case RecordType.ENTRY:
                index, term = record.position
                length = RECORD_HEADER + len(record.payload)
                self.add(index, term, Place(segment, record.offset, length))
            case RecordType.TRUNCATE:
                self.truncate_from(record.number)
            case RecordType.HARD_STATE:
                self.hard_state = HardState(*record.vote)
            case RecordType.COMMIT:
                self.commit = record.number
            case RecordType.COMPACTED:
                self.compact_to(*record.position)
            case RecordType.SEAL:
                pass


@dataclass(slots=True)
class Recovered:
    """The log as it was found; `unfinished` is a segment whose making a crash cut short.

    Of what the segments hold only the `newest` stays in memory: all of them may be larger.
    """

    state: LogState
    segments: dict[int, Segment]
    sequence: int
    newest: Scan | None = None
    unfinished: int | None = None

    @property
    def torn(self) -> int:
        """Bytes at the end of the last segment that a crash has torn."""
        return self.newest.torn if self.newest is not None else 0


def recover(disk: Disk, directory: str) -> Recovered:
    """Read the log in `directory`; changes nothing.

    Raises:
        LogDamaged: something that was durable once is gone or changed.
        LogTooNew: a newer release has written it.
    """
    numbers = segment_numbers(disk, directory)
    found = Recovered(LogState(), {}, 0)
    try:
        for number in numbers:
            _take_segment(disk, directory, number, found, last=number == numbers[-1])
        if found.segments:
            check_start(directory, numbers[0], found.state)
    except BaseException:
        for segment in found.segments.values():
            segment.close()
        raise
    found.state.commit = min(found.state.commit, found.state.last_index)
    return found


def _take_segment(disk: Disk, directory: str, number: int, found: Recovered, *, last: bool) -> None:
    if found.segments and number - 1 not in found.segments:
        path = os.path.join(directory, segment_name(number - 1))
        raise LogDamaged(path, 0, "the file is missing")
    opened = open_segment(disk, directory, number, newest=last)
    if opened is None:
        found.unfinished = number
        return
    segment, data = opened
    found.newest = None
    known = found.sequence if found.segments else None
    found.segments[number] = segment
    result = found.newest = scan(segment, data, known)
    found.sequence = max(found.sequence, result.sequence)
    segment.end = result.end
    damage = result.damage(newest=last)
    if damage:
        raise LogDamaged(segment.path, result.end, damage)
    for record in result.records:
        try:
            found.state.take(record, number)
        except ValueError as error:
            raise LogDamaged(segment.path, record.offset, str(error)) from None


def check_start(directory: str, first: int, state: LogState) -> None:
    """See that segments older than the one with number `first` are gone for a reason.

    Raises:
        LogDamaged: no snapshot holds what they said.
    """
    held = state.compacted[0]
    if not state.entries:
        state.first_index = held + 1
    if first > 1 and state.first_index > held + 1:
        path = os.path.join(directory, segment_name(first - 1))
        what = f"the file is missing, and with it entries before {state.first_index}"
        raise LogDamaged(path, 0, what)
