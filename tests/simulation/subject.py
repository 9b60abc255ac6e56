"""What the simulation asks of an implementation: nothing about how it does it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pysyncobj import syncobj as library
from pysyncobj.journal import MemoryJournal

from simulation.clock import Watch, of_this_thread

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from pickbox.consensus.configuration import Configuration
    from simulation.clock import Clock
    from simulation.events import Event, Fate
    from simulation.network import Network
    from simulation.swarm import Plan


class Answer(Protocol):
    """How a caller hears: once, with the log index that goes with it."""

    def __call__(self, fate: Fate, index: int, said: str = "") -> None: ...


class Storage(Protocol):
    """What outlives a node's process: its disk, and what is known for certain to be on it."""

    @property
    def durable_term(self) -> int:
        """The term that the disk has, whatever happens."""

    def holds_durably(self, index: int, term: int) -> bool:
        """Whether the disk has this entry, or a snapshot that covers it, whatever happens."""

    def entries(self, first: int, last: int) -> list[tuple[bytes, int, int]]:
        """Those of the running node's log that are there: command, index, term."""

    def terms(self) -> tuple[int, tuple[int, ...]]:
        """Index of the first entry of the running node's log, and the terms from there on."""

    def end_process(self, rng: random.Random, *, power: bool) -> None:
        """Keep what a kill leaves, or what a power cut does."""

    def end_soon(self, rng: random.Random) -> None:
        """Raise `PowerCut` within one of the next operations."""

    def refuse_soon(self, rng: random.Random) -> None:
        """Fail all operations of the disk, soon."""

    @property
    def refuses(self) -> bool: ...

    def relent(self) -> None:
        """Work again."""

    def refuse_commands(self, *, refused: bool) -> None:
        """Have the state machine's disk refuse what the log says, or take it again."""


@dataclass(slots=True)
class Place:
    """One node's machine: what outlives its process, and its way to the others.

    Attributes:
        voters: of the first configuration, the same for all.
        bootstraps: whether the node is told them, or waits to be added.
        contacts: who it listens to until it knows the members: id -> address.
        life: how many data directories the node has had; the first is 1.
    """

    node_id: str
    plan: Plan
    voters: list[str]
    network: Network
    clock: Clock
    rng: random.Random
    record: Callable[[Event], None]
    directory: str
    bootstraps: bool = True
    contacts: dict[str, str] = field(default_factory=dict)
    address: str = ""
    life: int = 1
    watch: Watch = field(default_factory=Watch)

    @property
    def incarnation(self) -> bytes:
        """The random tag of the data directory, which is not random here."""
        return f"{self.node_id}{self.life}".encode()


class Node(Protocol):
    """A running node."""

    wanted: dict[str, tuple[str, ...]]

    @property
    def address(self) -> str: ...
    def received(self, sender: str, message: Any) -> None: ...
    def connected(self, peer: str) -> None: ...
    def disconnected(self, peer: str) -> None: ...

    def tick(self) -> None: ...
    def close(self) -> None: ...
    def propose(self, command: bytes, answer: Answer) -> None: ...
    @property
    def leads(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def commit(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def state(self) -> int: ...
    @property
    def voters(self) -> frozenset[str]:
        """Those in force."""


@runtime_checkable
class Reads(Protocol):
    """A node that offers reads."""

    def read(self, answer: Answer) -> None:
        """Read the way that the implementation offers; answered with the index that was seen."""


@runtime_checkable
class Transfers(Protocol):
    """A node that can hand its leadership over."""

    def transfer(self, target: str | None, seconds: float, answer: Answer) -> None:
        """Done says the new leader; refused says that this node leads still, or never did."""


@runtime_checkable
class Changes(Protocol):
    """A node whose members can be changed, in ways of these `kinds`."""

    kinds: frozenset[str]

    @property
    def configuration(self) -> Configuration:
        """The members in force."""

    def change(self, kind: str, node_id: str, address: str, version: int, answer: Answer) -> None:
        """Add a learner, promote, remove or move it, if `version` is in force."""


class Subject(Protocol):
    """An implementation of Raft."""

    name: str

    def furnish(self, place: Place) -> Storage:
        """An empty data directory."""

    def start(self, place: Place, storage: Any) -> Node: ...

    def scaled(self, plan: Plan) -> contextlib.AbstractContextManager[None]:
        """Have constants of the implementation fit the size of `plan`."""

    def command(self, node: Any, payload: bytes) -> bytes:
        """What stands in the log for a write of `payload`."""


@contextlib.contextmanager
def controlled(clock: Clock, rng: random.Random) -> Iterator[None]:
    """Give the library the simulation's clock and chance, and no journal of its own."""
    before = library.monotonicTime, library.random, library.createJournal
    library.monotonicTime, library.random = of_this_thread(clock, before[0]), rng
    library.createJournal = lambda _: MemoryJournal()
    try:
        yield
    finally:
        library.monotonicTime, library.random, library.createJournal = before
