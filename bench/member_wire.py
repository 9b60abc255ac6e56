"""What clients say to a member of `consensus_member`, and how the load client says it.

A request is a head (length of the value, number of the request) and the value. An answer has a
fixed length: number, verdict, index. An empty value is no proposal but a question for the role.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

REQUEST: Final = struct.Struct(">IQ")
ANSWER: Final = struct.Struct(">QBQ")


class Verdict(enum.IntEnum):
    """What an answer says; the index is that of the entry, or the last that was applied."""

    COMMITTED = 0
    NOT_COMMITTED = 1
    LEADS = 2
    FOLLOWS = 3


class MemberWire:
    """One connection's bytes; see `load.Wire`."""

    def __init__(self) -> None:
        self._number = 0
        self._out: list[bytes] = []
        self._rest = b""

    def put(self, value: bytes) -> int:
        """Propose `value`; returns the number that the answer will have."""
        self._number += 1
        self._out += REQUEST.pack(len(value), self._number), value
        return self._number

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        out, self._out = self._out, []
        return b"".join(out)

    def feed(self, data: bytes) -> tuple[list[int], list[int]]:
        """Numbers of the requests that are committed, and of those that are not."""
        data = self._rest + data
        whole = len(data) - len(data) % ANSWER.size
        self._rest = data[whole:]
        committed: list[int] = []
        refused: list[int] = []
        for number, verdict, _ in ANSWER.iter_unpack(data[:whole]):
            (committed if verdict == Verdict.COMMITTED else refused).append(number)
        return committed, refused
