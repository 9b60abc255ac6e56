"""What the nodes say to each other, as typed records and as dicts for the transport.

The dicts hold only what msgpack can carry. Each also has the sender's incarnation and the
cluster's id, so that neither a wiped node nor one of another cluster is taken for a member.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

WireMessage: TypeAlias = dict[str, Any]


class MalformedMessage(Exception):
    """A message that no node of this release sends."""


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Asks for a vote in `term`; a trial asks whether it would be given, and binds nobody.

    The trial is the pre-vote of Ongaro's thesis, section 9.6. `transfer` marks an election that
    the leader itself asked for (section 3.10), which voters do not resist.
    """

    term: int
    last_index: int
    last_term: int
    trial: bool
    transfer: bool
    configuration_version: int


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answers the request for a vote in `asked`; `term` is the voter's own."""

    term: int
    asked: int
    trial: bool
    granted: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Entries that follow (`previous_index`, `previous_term`); without any, a heartbeat.

    `entries` are [term, command] pairs. `round` numbers the leader's heartbeats within its term.
    """

    term: int
    previous_index: int
    previous_term: int
    entries: list[Any]
    commit_index: int
    round: int


@dataclass(frozen=True, slots=True)
class AppendReply:
    """What a follower holds, durably; one a tick, however many appends came.

    Attributes:
        match_index: the log agrees with the leader's up to here; -1 says nothing.
        rejected_index: an append after this index found no match; -1 for none.
        hint_index: the highest index at which the logs may still agree, after a rejection.
        round: the last round of the leader that was heard.
        state_index: the follower's state machine had `state_hash` after this index; 0 for none.
    """

    term: int
    match_index: int
    rejected_index: int
    hint_index: int
    round: int
    state_index: int
    state_hash: bytes


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks its successor to call an election at once."""

    term: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Part of the snapshot file that covers the log up to `index`, from `offset` on.

    `digest` is the SHA-256 of the whole file, `size` its length in bytes. Without data it is a
    heartbeat and a question for the offset.
    """

    term: int
    index: int
    index_term: int
    machine_index: int
    configuration: bytes
    size: int
    digest: bytes
    offset: int
    data: bytes
    round: int


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """How much of the snapshot up to `index` has come: the next chunk starts at `offset`.

    `installed` is said only after the state machine has taken it in and it is durable.
    """

    term: int
    index: int
    offset: int
    installed: bool
    round: int


@dataclass(frozen=True, slots=True)
class Removed:
    """Tells a node that configuration `version`, which is committed, is without it."""

    term: int
    version: int


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Tells a node that its id is recorded with another incarnation: it was wiped or cloned."""

    term: int
    recorded: bytes


@dataclass(frozen=True, slots=True)
class Diverged:
    """The leader tells a node that its state after `index` is not what the majority has."""

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class Introduction:
    """Tells who the members are, by the last configuration that the sender knows to be committed.

    A node that lacks it lets them in, so that a leader it has never heard of can bring it up. It is
    nothing to count by: that comes with the log.
    """

    term: int
    configuration: bytes


Message: TypeAlias = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | TimeoutNow
    | SnapshotChunk
    | SnapshotReply
    | Removed
    | Unrecognised
    | Diverged
    | Introduction
)

_KINDS: Final[dict[str, Any]] = {
    "vote_request": VoteRequest,
    "vote_reply": VoteReply,
    "append": Append,
    "append_reply": AppendReply,
    "timeout_now": TimeoutNow,
    "snapshot_chunk": SnapshotChunk,
    "snapshot_reply": SnapshotReply,
    "removed": Removed,
    "unrecognised": Unrecognised,
    "diverged": Diverged,
    "introduction": Introduction,
}
MESSAGE_TYPES: Final = frozenset(_KINDS)
"""All values of ``type`` that a message has on the wire."""

_NAMES: Final[dict[Any, str]] = {kind: name for name, kind in _KINDS.items()}
_TYPES: Final = {"int": int, "bool": bool, "bytes": bytes, "list[Any]": list}
_FIELDS: Final = {
    name: [(field.name, _TYPES[str(field.type)]) for field in fields(kind)]
    for name, kind in _KINDS.items()
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a message: the incarnation of its data directory, and its cluster."""

    incarnation: bytes
    cluster_id: str


def to_wire(message: Message, origin: Origin) -> WireMessage:
    """The dict that the transport carries; nested values are shared, not copied."""
    name = _NAMES[type(message)]
    wire: WireMessage = {field: getattr(message, field) for field, _ in _FIELDS[name]}
    wire["type"] = name
    wire["incarnation"] = origin.incarnation
    wire["cluster"] = origin.cluster_id
    return wire


def from_wire(wire: WireMessage) -> tuple[Message, Origin]:
    """The record in `wire` and who sent it.

    Raises:
        MalformedMessage: a field is missing, or is not of its type.
    """
    kind = wire.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise MalformedMessage(f"unknown message type {kind!r}")
    values: list[Any] = []
    for name, expected in _FIELDS[kind]:
        value = wire.get(name)
        if type(value) is not expected:
            raise MalformedMessage(f"{kind}.{name} is {type(value).__name__}")
        values.append(value)
    incarnation, cluster_id = wire.get("incarnation"), wire.get("cluster")
    if not isinstance(incarnation, bytes) or not isinstance(cluster_id, str):
        raise MalformedMessage(f"{kind} does not say who sent it")
    return _KINDS[kind](*values), Origin(incarnation, cluster_id)
