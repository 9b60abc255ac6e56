"""What can be chosen about a node of the core, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pickbox.consensus.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pickbox.consensus.configuration import Configuration
    from pickbox.consensus.library import Role


def _nothing(*_: object) -> None: ...


def _at_once(call: Callable[[], None]) -> None:
    call()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a node is told. All are called on the tick thread and must be quick.

    Attributes:
        on_role: role, term, id of the leader or None; after each change of one of them.
        on_configuration: the members, when others are in force; they may not be committed yet.
            And where this node looks for the others, by id.
        on_standing: this node may take part no more, with the reason; empty when it may again.
        on_diverged: the state after this entry is not what the majority has. Stop serving.
        on_snapshot: a snapshot up to this entry is durable, made here or received.
        on_tick: seconds that a tick took, its wait not counted.
    """

    on_role: Callable[[Role, int, str | None], None] = _nothing
    on_configuration: Callable[[Configuration, Mapping[str, tuple[str, ...]]], None] = _nothing
    on_standing: Callable[[str], None] = _nothing
    on_diverged: Callable[[int], None] = _nothing
    on_snapshot: Callable[[int], None] = _nothing
    on_tick: Callable[[float], None] = _nothing


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen about a node.

    Attributes:
        batch_bytes: an append holds this much at most, or one entry.
        hash_every: states are compared after each entry whose index is a multiple of this.
        refusals: exceptions of the state machine that mean that this node alone is in trouble, as
            when its disk refuses.
        most_queued: proposals that may wait for the next tick; more are turned away.
        snapshot_every: entries since the last snapshot after which another is made.
        keep_trailing: entries before a snapshot that stay in the log, for peers that lag.
        aside: runs a function soon, on a thread of its own; as it is, snapshots hold up the tick.
    """

    timing: Timing = field(default_factory=Timing)
    batch_bytes: int = 1 << 20
    hash_every: int = 1000
    refusals: tuple[type[Exception], ...] = (OSError,)
    most_queued: int = 10_000
    snapshot_every: int = 20_000
    keep_trailing: int = 10_000
    aside: Callable[[Callable[[], None]], None] = _at_once
