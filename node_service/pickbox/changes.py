"""The words of the domain: entries, changes, and what became of a change.

An *entry* is one path of the catalog at its current version. A *change* says what somebody wants
of a path, and on top of which version they wanted it. Changes travel through the log in
*submissions*, batched into a *command*; the state machine answers each with an *outcome*.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

DIGEST_BYTES: Final = 32
"""Length of a BLAKE3 digest (https://github.com/BLAKE3-team/BLAKE3-specs)."""

ANY_VERSION: Final = -1
"""Base of a change that applies whatever is there."""

ABSENT: Final = 0
"""Base of a change made where nothing was."""

PRESENT: Final = -2
"""Base of a change that applies to whatever is there, but not to nothing."""


def base_holds(base: int, version: int) -> bool:
    """Whether a change with `base` was made on what is at its path now: `version`, or `ABSENT`."""
    if base == PRESENT:
        return version != ABSENT
    return base in (ANY_VERSION, version)


class Kind(enum.IntEnum):
    """What a path is. Devices, sockets and pipes are never replicated."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class OnStale(enum.IntEnum):
    """What the state machine does with a change whose base is no longer the current version."""

    KEEP_BOTH = 1
    """Keep the committed version and add the change's content as a conflict copy (folder edits)."""
    REFUSE = 2
    """Change nothing and say so (conditional HTTP requests)."""


class Status(enum.StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """The catalog already said exactly this."""
    CONFLICT = "conflict"
    """The committed version stayed; the content went to `Outcome.path`, a conflict copy."""
    STALE = "stale"
    """Refused: the base is not the current version."""
    DROPPED = "dropped"
    """A delete that lost against a newer edit, or of a directory that is not empty."""
    REFUSED = "refused"
    """The change itself is not allowed (`Outcome.reason` names the rule)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of the catalog at its current version.

    Attributes:
        path: relative to the folder, components joined by ``/``, in bytes as the disk has them.
        kind: file, directory or symlink.
        size: content length in bytes; 0 for directories.
        mode: permission bits (``0o777`` at most).
        mtime_ns: modification time, nanoseconds since the epoch; 0 for directories.
        digest: BLAKE3 of the content (of the target for a symlink); empty for a directory.
        target: a symlink's target; empty otherwise.
        version: cluster-wide number of the change that made this entry; grows by one a change.
        origin: id of the node that took the change in; empty for a directory that exists only
            because something was put below it.
    """

    path: bytes
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    digest: bytes
    target: bytes
    version: int
    origin: str

    def same_content(self, other: Entry | Put) -> bool:
        """Whether both are of one kind and hold the same bytes."""
        return self.kind == other.kind and self.digest == other.digest


@dataclass(frozen=True, slots=True)
class Put:
    """Make `path` be this: a file's content, a directory, or a symlink.

    Attributes:
        inline: the content itself, for files up to the inline limit; None when peers hold it.
        holders: ids of the nodes that hold the content durably (content not inline).
        base: the version the change was made on, `ABSENT`, `PRESENT` or `ANY_VERSION`.
    """

    level: ClassVar[int] = 1
    path: bytes
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    digest: bytes
    target: bytes = b""
    inline: bytes | None = field(default=None, repr=False)
    holders: tuple[str, ...] = ()
    base: int = ANY_VERSION
    on_stale: OnStale = OnStale.KEEP_BOTH

    @property
    def bytes_in_command(self) -> int:
        """How many bytes it takes in a command, at most: its names, its content, the rest."""
        return 256 + len(self.path) + len(self.target) + len(self.inline or b"")


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `path`. With `recursive`, a directory goes with all that is in it."""

    level: ClassVar[int] = 1
    path: bytes
    base: int = ANY_VERSION
    on_stale: OnStale = OnStale.KEEP_BOTH
    recursive: bool = False

    @property
    def bytes_in_command(self) -> int:
        """How many bytes it takes in a command, at most: its names, its content, the rest."""
        return 64 + len(self.path)


@dataclass(frozen=True, slots=True)
class Move:
    """Give the entry at `path`, with all that is in it, the name `destination`.

    `destination_base` is the version the caller expects there: `ABSENT`, `ANY_VERSION` or a number.
    """

    level: ClassVar[int] = 1
    path: bytes
    destination: bytes
    base: int = ANY_VERSION
    destination_base: int = ABSENT

    @property
    def bytes_in_command(self) -> int:
        """How many bytes it takes in a command, at most: its names, its content, the rest."""
        return 64 + len(self.path) + len(self.destination)


@dataclass(frozen=True, slots=True)
class Raise:
    """Let the cluster use all that came with `level`, from here on and for good.

    `release` is the first that understands it: whoever does not can say what is needed.
    """

    level: int
    release: str

    @property
    def bytes_in_command(self) -> int:
        """How many bytes it takes in a command, at most: its names, its content, the rest."""
        return 64 + len(self.release)


Change: TypeAlias = Put | Delete | Move | Raise
"""Each has the `level` (`pickbox.levels`) from which on it may be proposed; a raise, its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change.

    Attributes:
        status: see `Status`.
        version: the version that `path` has now; 0 if nothing is there.
        path: the path that holds the change's content: the conflict copy's for a conflict.
        reason: for refusals, the sentence that says which rule and what to do.
    """

    status: Status
    version: int
    path: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """Changes that one caller wants, under one request id. A retry has the same id.

    Attributes:
        request_id: chosen by the caller; the state machine never applies one twice.
        origin: id of the node that took the changes in.
        taken_at: wall clock of that node, milliseconds since the epoch: for conflict names and
            for measuring, never for deciding.
    """

    request_id: str
    origin: str
    taken_at: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state machine's answer to a submission: one outcome a change, in order.

    Attributes:
        index: log index of the entry that carried it.
    """

    request_id: str
    index: int
    outcomes: tuple[Outcome, ...]
