"""What happens in a simulated cluster, as the invariants see it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias


class Fate(enum.Enum):
    """What a client was told about its call."""

    DONE = "done"
    REFUSED = "refused"
    """The write is in no log and never will be; the read was not answered."""
    UNKNOWN = "unknown"


class Ending(enum.Enum):
    """How a node's process ends."""

    KILL = "kills"
    POWER_CUT = "power cuts"
    REFUSAL = "disk refusals"
    FAILURE = "failures"


class Operation(enum.Enum):
    """What a call asks for."""

    WRITE = "write"
    READ = "read"
    CHANGE = "change of the members"
    TRANSFER = "transfer of the leadership"


@dataclass(frozen=True, slots=True)
class Appended:
    """A node wrote an entry to its log; `previous_term` is that of the entry before, if known."""

    node: str
    index: int
    term: int
    previous_term: int | None
    command: bytes


@dataclass(frozen=True, slots=True)
class Led:
    """A node became leader, with a log that holds `terms` from `first_index` on.

    `life` tells its data directory from earlier ones.
    """

    node: str
    term: int
    first_index: int
    terms: tuple[int, ...]
    life: int = 1


@dataclass(frozen=True, slots=True)
class Committed:
    """A node counts an entry of its log as committed, when its own term is `in_term`.

    The first node that does so is the one that decided it: for it, `holders` are the nodes on
    whose disks the entry was for certain then, and `voters` those that were in force.
    """

    node: str
    index: int
    term: int
    command: bytes
    in_term: int
    holders: tuple[str, ...] = ()
    voters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """A node's state machine took an entry."""

    node: str
    index: int
    command: bytes


@dataclass(frozen=True, slots=True)
class Stood:
    """Where a node stands after a step. `state` is the digest of its state machine."""

    node: str
    term: int
    commit: int
    applied: int
    state: int


@dataclass(frozen=True, slots=True)
class Forgot:
    """A power loss took a node back to `term`: what it alone knew of later ones never was."""

    node: str
    term: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A node came back from its disk, which held `durable_term` for certain.

    `lost` says what else was there for certain and is not any more; empty if nothing is missing.
    `voted_for` is whom the node knows that it voted for in `term`; None if that cannot be seen.
    """

    node: str
    durable_term: int
    term: int
    lost: str = ""
    voted_for: str | None = None


@dataclass(frozen=True, slots=True)
class Voted:
    """A node said to a candidate that this has its vote in `term`."""

    node: str
    term: int
    candidate: str


@dataclass(frozen=True, slots=True)
class Wiped:
    """A node's data directory is gone; the next one that speaks for it is empty."""

    node: str


@dataclass(frozen=True, slots=True)
class Diverged:
    """A node was told that its state after `index` is not the majority's."""

    node: str
    index: int


@dataclass(frozen=True, slots=True)
class Installed:
    """A node continues from a snapshot that it was sent."""

    node: str
    index: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """A node's process ended."""

    node: str
    how: Ending
    why: str


@dataclass(frozen=True, slots=True)
class Called:
    """A client asked a node, in `term`, for something. Only a write has a command."""

    call: int
    node: str
    operation: Operation
    command: bytes = b""
    term: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A client heard. `index` is the entry of a write, or what a read saw; `said` is the rest."""

    call: int
    fate: Fate
    index: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A node raised where it should not."""

    node: str
    error: str


@dataclass(frozen=True, slots=True)
class Ended:
    """All faults are over: who leads, and where each member in good standing is.

    `excused` are the calls of nodes that died.
    """

    leader: str | None
    applied: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    excused: frozenset[int] = frozenset()


Event: TypeAlias = (
    Appended
    | Led
    | Committed
    | Applied
    | Stood
    | Forgot
    | Restarted
    | Voted
    | Wiped
    | Diverged
    | Installed
    | Stopped
    | Called
    | Answered
    | Failed
    | Ended
)
