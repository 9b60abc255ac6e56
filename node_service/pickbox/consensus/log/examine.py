"""A log looked at and left as it is: what is in it, what is damaged, what a start would do to it.

Recovery ends at the first thing that is not sound. This goes on behind it, so that a person sees
all of it. A node may be writing meanwhile: what is not sound is read again, and is told only if it
stays the same.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pickbox.consensus.log.records import RecordType
from pickbox.consensus.log.recovery import HardState, LogState, check_start
from pickbox.consensus.log.segment import (
    LogDamaged,
    LogTooNew,
    open_segment,
    scan,
    segment_name,
    segment_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pickbox.consensus.log.disk import Disk
    from pickbox.consensus.log.durable_log import LogEntry
    from pickbox.consensus.log.records import Record
    from pickbox.consensus.log.segment import Segment

_READINGS: Final = 20
"""How often a log is read in which each time something else is not sound."""

_PAUSE: Final = 0.05
"""Seconds between two readings; many times what a write takes to show whole."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that was durable once and is gone or changed, at `offset` of the file `path`."""

    path: str
    offset: int
    found: str


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """A segment as it is on the disk.

    Attributes:
        size: bytes that it takes on the volume.
        end: offset behind its sound part; 0 if not even the header is sound.
        first_index, last_index: of the entries that it holds; 0 if it holds none.
        torn: bytes behind `end` that the next start cuts; 0 in a damaged segment, which none will.
        reason: what is at `end` instead of a batch.
        unfinished: a crash cut its making short; the next start removes it.
    """

    path: str
    size: int
    version: int = 0
    end: int = 0
    first_index: int = 0
    last_index: int = 0
    sealed: bool = False
    torn: int = 0
    reason: str = ""
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Examination:
    """What a log says. With damages, all but them and `segments` is read from what is before them.

    Attributes:
        too_new: which segment is of a newer release, and what to do; nothing behind it was read.
        compacted: index and term up to which a snapshot holds everything; (0, 0) if none does.
        commit: entries up to here were committed, and later ones may be: a hint.
        first_index, last_index: of the entries that are here; the first is higher if none are.
        kinds: how many entries begin with each byte; an empty command counts as ``b""``.
        last_entries: the last few entries.
    """

    segments: Sequence[SegmentFound]
    damages: Sequence[Damage]
    too_new: str
    hard_state: HardState
    compacted: tuple[int, int]
    commit: int
    first_index: int
    last_index: int
    kinds: Mapping[bytes, int]
    last_entries: Sequence[LogEntry]

    @property
    def is_sound(self) -> bool:
        """Whether the log is as a node leaves it that was asked to stop."""
        cut_short = any(segment.torn or segment.unfinished for segment in self.segments)
        return not self.damages and not cut_short


def examine(disk: Disk, directory: str, *, last: int = 0) -> Examination:
    """Read the log in `directory`; change nothing, and take no lock.

    Args:
        last: how many of the last entries to return.

    Raises:
        OSError: the directory or a file in it cannot be read.
    """
    before: Examination | None = None
    for reading in range(1, _READINGS + 1):
        numbers = segment_numbers(disk, directory)
        try:
            found = _read(disk, directory, numbers, last)
        except FileNotFoundError:  # a segment was let go after the names were read
            if reading == _READINGS:
                raise
            continue
        if found.is_sound or (before is not None and found.segments == before.segments):
            break
        before = found
        time.sleep(_PAUSE)
    return found


def _read(disk: Disk, directory: str, numbers: list[int], last: int) -> Examination:
    reading = _Reading(disk, directory)
    try:
        for number in numbers:
            reading.take_segment(number, newest=number == numbers[-1])
        if numbers:
            reading.check_start(numbers[0])
        return reading.result(last)
    except LogTooNew as error:
        return reading.result(last, str(error))
    finally:
        reading.close()


class _Reading:
    """One pass over the segments. They stay open, so that one that is let go can still be read."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._open: dict[int, Segment] = {}
        self._found: list[SegmentFound] = []
        self._damages: list[Damage] = []
        self._sequence: int | None = None
        self._next: int | None = None
        self._state = LogState()
        self._kinds: dict[int, bytes] = {}

    def take_segment(self, number: int, *, newest: bool) -> None:
        """Read segment `number`, and go on from what was read before it.

        Raises:
            LogTooNew: its format is of a newer release.
        """
        for missing in range(self._next or number, number):
            self._damaged(self._path(missing), 0, "the file is missing")
        self._next = number + 1
        try:
            opened = open_segment(self._disk, self._directory, number, newest=newest)
        except LogDamaged as error:
            self._damaged(error.path, error.offset, error.found)
            self._found.append(SegmentFound(error.path, self._size(error.path)))
            return
        if opened is None:
            path = self._path(number)
            self._found.append(SegmentFound(path, self._size(path), unfinished=True))
            return
        segment, data = opened
        self._open[number] = segment
        self._found.append(self._read_segment(segment, data, newest=newest))

    def _read_segment(self, segment: Segment, data: bytes, *, newest: bool) -> SegmentFound:
        found = scan(segment, data, self._sequence)
        self._sequence = found.sequence
        alone = self._take_records(segment, found.records)
        damage = found.damage(newest=newest)
        if damage:
            self._damaged(segment.path, found.end, damage)
        has_entries = bool(alone.entries)
        return SegmentFound(
            segment.path,
            len(data),
            segment.version,
            found.end,
            alone.first_index if has_entries else 0,
            alone.last_index if has_entries else 0,
            found.sealed,
            0 if damage else found.torn,
            found.reason,
        )

    def _take_records(self, segment: Segment, records: list[Record]) -> LogState:
        """Add `records` to what the log says, up to the first damage; what they say alone."""
        alone = LogState()
        for record in records:
            try:
                alone.take(record, segment.number)
                if not self._damages:
                    self._take_record(record, segment.number)
            except ValueError as error:
                self._damaged(segment.path, record.offset, str(error))
                break
        return alone

    def _take_record(self, record: Record, segment: int) -> None:
        self._state.take(record, segment)
        if record.type is RecordType.ENTRY:
            self._kinds[record.position[0]] = record.command[:1]

    def _damaged(self, path: str, offset: int, found: str) -> None:
        self._damages.append(Damage(path, offset, found))
        self._sequence = None

    def check_start(self, first: int) -> None:
        """Note whether segments before number `first` are gone that no snapshot makes up for."""
        if self._damages or not self._open:
            return
        try:
            check_start(self._directory, first, self._state)
        except LogDamaged as error:
            self._damaged(error.path, error.offset, error.found)

    def result(self, last: int, too_new: str = "") -> Examination:
        """All that was read."""
        state = self._state
        indexes = range(state.first_index, state.last_index + 1)
        return Examination(
            tuple(self._found),
            tuple(self._damages),
            too_new,
            state.hard_state,
            state.compacted,
            min(state.commit, state.last_index),
            state.first_index,
            state.last_index,
            Counter(self._kinds[index] for index in indexes),
            tuple(self._entry(index) for index in indexes[max(0, len(indexes) - last) :]),
        )

    def _entry(self, index: int) -> LogEntry:
        term, place = self._state.entries[index - self._state.first_index]
        record = self._open[place.segment].read(place.offset, place.length)
        return record.command, index, term

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, segment_name(number))

    def _size(self, path: str) -> int:
        file = self._disk.open(path, create=False)
        try:
            return file.size()
        finally:
            file.close()

    def close(self) -> None:
        """Close the files."""
        for segment in self._open.values():
            segment.close()
