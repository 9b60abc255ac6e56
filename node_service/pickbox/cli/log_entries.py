"""What the entries of a log say, in a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pickbox.changes import Delete, Kind, Move, Put, Raise
from pickbox.cli import render
from pickbox.codec import DecodeError, decode_command
from pickbox.consensus.configuration import Configuration, InvalidConfiguration
from pickbox.consensus.library import MEMBERSHIP, NO_OP, REGULAR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pickbox.changes import Change, Submission
    from pickbox.consensus.configuration import Participant
    from pickbox.consensus.library import LogEntry

_KINDS: Final = {REGULAR: "command", NO_OP: "no-op", MEMBERSHIP: "membership"}
_SHOWN: Final = 3
"""Changes of a command that are named; the others are counted."""


def kind_of(first: bytes) -> str:
    """What an entry is whose command begins with the byte `first`."""
    return _KINDS.get(first, f"unknown {first.hex() or '(empty)'}")


def counts(kinds: Mapping[bytes, int]) -> dict[str, int]:
    """How many entries there are of each kind."""
    return {kind_of(first): count for first, count in sorted(kinds.items())}


def document(entry: LogEntry) -> dict[str, Any]:
    """An entry for ``--json``: its place, its size in bytes, and what it says."""
    command, index, term = entry
    kind = kind_of(command[:1])
    shown = {"index": index, "term": term, "kind": kind, "bytes": len(command)}
    if kind == "membership":
        try:
            configuration = Configuration.decode(command[1:])
        except InvalidConfiguration as error:
            return {**shown, "what": str(error)}
        return {**shown, "what": _members(configuration), "members": members(configuration)}
    return {**shown, "what": _command(command[1:]) if kind == "command" else ""}


def members(configuration: Configuration) -> dict[str, Any]:
    """A configuration for ``--json``: addresses by node id."""
    return {
        "version": configuration.version,
        "cluster": configuration.cluster_id,
        "voters": {n: p.address for n, p in configuration.voters.items()},
        "learners": {n: p.address for n, p in configuration.learners.items()},
    }


def _members(configuration: Configuration) -> str:
    told = f"version {configuration.version}: voters {_group(configuration.voters)}"
    if configuration.learners:
        told += f"; learners {_group(configuration.learners)}"
    return told


def _group(group: Mapping[str, Participant]) -> str:
    return ", ".join(f"{node_id} ({participant.address})" for node_id, participant in group.items())


def _command(command: bytes) -> str:
    try:
        submissions = decode_command(command)
    except DecodeError as error:
        return f"not decodable: {error}"
    return "; ".join(map(_submission, submissions))


def _submission(submission: Submission) -> str:
    told = ", ".join(map(_change, submission.changes[:_SHOWN]))
    others = len(submission.changes) - _SHOWN
    return f"{submission.origin}: {told}" + (f" and {others} more" if others > 0 else "")


def _change(change: Change) -> str:
    if isinstance(change, Raise):
        return f"raise to level {change.level} (release {change.release})"
    path = render.printable(change.path)
    match change:
        case Put(kind=Kind.DIRECTORY):
            return f"make directory {path}"
        case Put(kind=Kind.SYMLINK):
            return f"link {path} to {render.printable(change.target)}"
        case Put():
            return f"put {path} ({render.size(change.size)})"
        case Delete():
            return f"delete {path}" + (" and all in it" if change.recursive else "")
        case Move():
            return f"move {path} to {render.printable(change.destination)}"
