"""The bytes of a log segment: a header, then batches of records.

``docs/reference/log-format.md`` describes them. All numbers are little-endian. A batch is what one
sync made durable, so a bad record with a later batch behind it was durable once, and is damage; a
bad record with none behind it is a write that a crash has torn.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

import google_crc32c

SEGMENT_MAGIC: Final = b"PBXLOG\r\n"
BATCH_MAGIC: Final = b"\xf5PBX\xa7bat"
FORMAT_VERSION: Final = 1

_SEGMENT: Final = struct.Struct("<8sIQ8sI")  # magic, version, number, salt, crc
_BATCH: Final = struct.Struct("<8sQII")  # magic, sequence, length, crc
_RECORD: Final = struct.Struct("<IIB")  # length of the payload, crc, type
_CHECKED: Final = struct.Struct("<II")  # the part of it before what the crc covers
_ENTRY: Final = struct.Struct("<BQQ")  # type, index, term
_POSITION: Final = struct.Struct("<QQ")  # index, term
_NUMBER: Final = struct.Struct("<Q")

SEGMENT_HEADER: Final = _SEGMENT.size
BATCH_HEADER: Final = _BATCH.size
RECORD_HEADER: Final = _RECORD.size
LONGEST_PAYLOAD: Final = 64 << 20


class RecordType(enum.IntEnum):
    """What a record says."""

    ENTRY = 1
    TRUNCATE = 2
    HARD_STATE = 3
    COMMIT = 4
    COMPACTED = 5
    SEAL = 6


_TYPES: Final = {int(kind): kind for kind in RecordType}
_ENTRY_TYPE: Final = int(RecordType.ENTRY)


class BadBytes(Exception):
    """The bytes at a place are not what belongs there; the text says what was found."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The head of a segment. `salt` is random: batches of another file do not fit."""

    number: int
    salt: bytes
    version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """The header's bytes."""
        packed = _SEGMENT.pack(SEGMENT_MAGIC, self.version, self.number, self.salt, 0)
        return packed[:-4] + struct.pack("<I", google_crc32c.value(packed[:-4]))

    @classmethod
    def decode(cls, data: bytes, expected: int) -> SegmentHeader:
        """Read the header of segment `expected`.

        Raises:
            BadBytes: it is none.
        """
        if len(data) < SEGMENT_HEADER:
            raise BadBytes(f"only {len(data)} bytes where a segment's header belongs")
        magic, version, number, salt, crc = _SEGMENT.unpack_from(data)
        if magic != SEGMENT_MAGIC:
            raise BadBytes(f"{magic!r} where a segment's magic belongs")
        if crc != google_crc32c.value(data[: SEGMENT_HEADER - 4]):
            raise BadBytes("the checksum of the segment's header is wrong")
        if number != expected:
            raise BadBytes(f"the header of segment {number}")
        return cls(number, salt, version)


@dataclass(frozen=True, slots=True)
class Record:
    """One record and where it is. `offset` is that of its first byte in the segment."""

    type: RecordType
    payload: bytes
    offset: int

    @property
    def position(self) -> tuple[int, int]:
        """Index and term of an entry, or of the last one that a snapshot holds."""
        index, term = _POSITION.unpack_from(self.payload)
        return index, term

    @property
    def command(self) -> bytes:
        """An entry's command."""
        return self.payload[_POSITION.size :]

    @property
    def number(self) -> int:
        """The index of a truncation or of a commit hint."""
        number: int = _NUMBER.unpack_from(self.payload)[0]
        return number

    @property
    def vote(self) -> tuple[int, str | None]:
        """Term, and whom the node voted for in it."""
        name = self.payload[_NUMBER.size :].decode()
        return self.number, name or None


def encode_record(kind: RecordType, payload: bytes) -> bytes:
    """One record. The checksum (CRC-32C, RFC 3720 appendix B.4) covers type and payload."""
    return _record(bytes([kind]) + payload)


def _record(typed: bytes) -> bytes:
    """The record whose type and payload are `typed`."""
    return _CHECKED.pack(len(typed) - 1, google_crc32c.value(typed)) + typed


def encode_entry(index: int, term: int, command: bytes) -> bytes:
    """A log entry."""
    return _record(_ENTRY.pack(_ENTRY_TYPE, index, term) + command)


def encode_compacted(index: int, term: int) -> bytes:
    """A snapshot holds everything up to this entry."""
    return encode_record(RecordType.COMPACTED, _POSITION.pack(index, term))


def encode_number(kind: RecordType, index: int) -> bytes:
    """A truncation from `index` on, or a commit hint."""
    return encode_record(kind, _NUMBER.pack(index))


def encode_vote(term: int, voted_for: str | None) -> bytes:
    """Term and vote."""
    payload = _NUMBER.pack(term) + (voted_for or "").encode()
    return encode_record(RecordType.HARD_STATE, payload)


def encode_batch(sequence: int, salt: bytes, records: bytes) -> bytes:
    """The records of one sync, with a header that numbers them."""
    return _batch_header(sequence, salt, len(records)) + records


def _batch_header(sequence: int, salt: bytes, length: int) -> bytes:
    plain = _BATCH.pack(BATCH_MAGIC, sequence, length, 0)[:-4]
    return plain + struct.pack("<I", google_crc32c.value(salt + plain))


def decode_batch_header(
    data: bytes, offset: int, salt: bytes, *, after: int | None = None
) -> tuple[int, int]:
    """Sequence and length in bytes of the batch whose header is at `offset` of `data`.

    Args:
        after: number of the batch before it; None if it may be any.

    Raises:
        BadBytes: there is none.
    """
    header = data[offset : offset + BATCH_HEADER]
    if len(header) < BATCH_HEADER:
        raise BadBytes(f"only {len(header)} bytes where a batch's header belongs")
    magic, sequence, length, _ = _BATCH.unpack(header)
    if magic != BATCH_MAGIC:
        raise BadBytes(f"{magic!r} where a batch's magic belongs")
    if header != _batch_header(sequence, salt, length):
        raise BadBytes("the checksum of the batch's header is wrong")
    if after is not None and sequence != after + 1:
        raise BadBytes(f"batch {sequence} where {after + 1} belongs")
    return sequence, length


def decode_record(data: bytes, offset: int, end: int) -> Record:
    """The record at `offset` of `data`, which must end by `end`.

    Raises:
        BadBytes: there is none.
    """
    if offset + RECORD_HEADER > end:
        raise BadBytes(f"only {end - offset} bytes where a record's header belongs")
    length, crc, kind = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_HEADER
    if length > LONGEST_PAYLOAD or start + length > end:
        raise BadBytes(f"a record of {length} bytes, and only {end - start} follow")
    payload = data[start : start + length]
    if len(payload) < length:
        raise BadBytes(f"a record of {length} bytes ends after {len(payload)}")
    if crc != google_crc32c.extend(google_crc32c.value(bytes([kind])), payload):
        raise BadBytes("the checksum of the record is wrong")
    if kind not in _TYPES:
        raise BadBytes(f"a record of unknown type {kind}")
    return Record(_TYPES[kind], payload, offset)


def later_batch(data: bytes, offset: int, salt: bytes, after: int) -> int | None:
    """Where a batch numbered above `after` begins at or behind `offset`; None if nowhere.

    The numbers only grow, so a copy of this very log inside an entry is not taken for a batch.
    """
    while (offset := data.find(BATCH_MAGIC, offset)) >= 0:
        try:
            if decode_batch_header(data, offset, salt)[0] > after:
                return offset
        except BadBytes:
            pass
        offset += 1
    return None
