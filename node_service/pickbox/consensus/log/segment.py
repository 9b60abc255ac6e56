"""One file of the log: written at its end, a batch at a time."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pickbox.consensus.log.records import (
    BATCH_HEADER,
    FORMAT_VERSION,
    RECORD_HEADER,
    SEGMENT_HEADER,
    BadBytes,
    Record,
    RecordType,
    SegmentHeader,
    decode_batch_header,
    decode_record,
    encode_batch,
    later_batch,
)

if TYPE_CHECKING:
    from pickbox.consensus.log.disk import Disk, DiskFile

_NAME: Final = re.compile(r"[0-9]{16}\.log")

WAYS_OUT: Final = (
    "This node cannot know what it promised. If the other nodes are a majority, move this node's "
    "whole data directory away and let it join anew; else put back a copy of the data directory "
    "from before the damage"
)


class LogDamaged(Exception):
    """The log on the disk is not what was written; the text says where, and the ways out."""

    def __init__(self, path: str, offset: int, found: str) -> None:
        super().__init__(f"{path}, offset {offset}: {found}. {WAYS_OUT}")
        self.path, self.offset, self.found = path, offset, found


class LogTooNew(Exception):
    """A newer release has written the log."""


def segment_name(number: int) -> str:
    """The file name of segment `number`."""
    return f"{number:016d}.log"


def segment_numbers(disk: Disk, directory: str) -> list[int]:
    """The segments in `directory`, oldest first."""
    return sorted(int(name[:16]) for name in disk.names(directory) if _NAME.fullmatch(name))


class Segment:
    """A segment that is open. `end` is where the next batch goes."""

    def __init__(self, path: str, file: DiskFile, header: SegmentHeader, end: int) -> None:
        self.path = path
        self.number = header.number
        self.version = header.version
        self.salt = header.salt
        self.end = end
        self._file = file

    @classmethod
    def create(cls, disk: Disk, directory: str, number: int, salt: bytes, size: int) -> Segment:
        """Make segment `number` with room for `size` bytes, durably.

        Raises:
            OSError: the volume refuses.
        """
        path = os.path.join(directory, segment_name(number))
        file = disk.open(path, create=True)
        try:
            file.allocate(size)
            header = SegmentHeader(number, salt)
            file.write(0, header.encode())
            file.sync()
            disk.sync_directory(directory)
        except BaseException:
            file.close()
            raise
        return cls(path, file, header, SEGMENT_HEADER)

    def write(self, sequence: int, records: bytes) -> int:
        """Write a batch at the end, not durable yet; return the offset of its first record."""
        batch = encode_batch(sequence, self.salt, records)
        self._file.write(self.end, batch)
        first = self.end + BATCH_HEADER
        self.end += len(batch)
        return first

    def sync(self) -> None:
        """Make everything written durable."""
        self._file.sync()

    def read(self, offset: int, length: int) -> Record:
        """The record of `length` bytes at `offset`.

        Raises:
            LogDamaged: it is not what was written.
        """
        data = self._file.read(offset, length)
        try:
            record = decode_record(data, 0, len(data))
        except BadBytes as error:
            raise LogDamaged(self.path, offset, str(error)) from None
        return record

    def cut(self, offset: int, size: int) -> None:
        """Drop what is behind `offset`, and take room for `size` bytes again, durably."""
        self._file.truncate(offset)
        self._file.allocate(size)
        self._file.sync()
        self.end = offset

    def assure(self, offset: int) -> None:
        """Make what is there up to the end durable, of which only what is behind `offset` is not.

        It is written once more, and the header: after a sync that failed, the kernel may go on to
        show pages that it never will write (Rebello et al., USENIX ATC 2020).
        """
        for start, end in ((0, SEGMENT_HEADER), (offset, self.end)):
            self._file.write(start, self._file.read(start, end - start))
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds: whole batches, since a torn one has promised nothing.

    Attributes:
        records: all sound records, in order.
        last: where the last sound batch begins.
        end: where the sound part ends.
        sequence: number of the last sound batch.
        torn: bytes behind `end` that are of no use; 0 if the file ends as it was left.
        reason: what is at `end` instead of a batch.
        later: where a later batch begins behind `end`; None if there is none.
    """

    records: list[Record]
    last: int
    end: int
    sequence: int
    torn: int
    reason: str
    later: int | None

    def damage(self, *, newest: bool) -> str:
        """What no crash can have left at `end`; empty if the segment is sound."""
        if self.later is not None:
            return f"{self.reason}, and a later batch follows at {self.later}"
        if not newest and not self.sealed:
            return "the segment ends before it was finished"
        return ""

    @property
    def sealed(self) -> bool:
        """Whether the segment was finished before the next one was begun."""
        return bool(self.records) and self.records[-1].type is RecordType.SEAL


def open_segment(
    disk: Disk, directory: str, number: int, *, newest: bool
) -> tuple[Segment, bytes] | None:
    """Segment `number`, open, and all its bytes; None if a crash cut its making short.

    Its header is durable before its first batch is written, so only the newest can be unfinished.

    Raises:
        LogDamaged: its header is not sound.
        LogTooNew: its format is of a newer release.
    """
    path = os.path.join(directory, segment_name(number))
    file = disk.open(path, create=False)
    try:
        data = file.read(0, file.size())
        header = SegmentHeader.decode(data, number)
    except BadBytes as error:
        file.close()
        if newest and not any(data[SEGMENT_HEADER:]):
            return None
        raise LogDamaged(path, 0, str(error)) from None
    if header.version > FORMAT_VERSION:
        file.close()
        raise LogTooNew(
            f"{path} has format {header.version}, and this release knows {FORMAT_VERSION}: start "
            "the release that wrote it"
        )
    return Segment(path, file, header, SEGMENT_HEADER), data


def scan(segment: Segment, data: bytes, sequence: int | None) -> Scan:
    """Read the batches of a segment.

    Args:
        sequence: number of the last batch before this segment; None if it is not known.
    """
    records: list[Record] = []
    last = offset = SEGMENT_HEADER
    while True:
        try:
            found, length = decode_batch_header(data, offset, segment.salt, after=sequence)
            start = offset + BATCH_HEADER
            batch = _read_batch(data, start, start + length)
        except BadBytes as error:
            sequence = sequence or 0
            later = later_batch(data, offset + 1, segment.salt, sequence)
            rest = len(data) - offset
            torn = 0 if data.count(0, offset) == rest else rest
            return Scan(records, last, offset, sequence, torn, str(error), later)
        records += batch
        sequence, last, offset = found, offset, start + length


def _read_batch(data: bytes, start: int, end: int) -> list[Record]:
    records = []
    while start < end:
        record = decode_record(data, start, end)
        records.append(record)
        start += RECORD_HEADER + len(record.payload)
    return records
