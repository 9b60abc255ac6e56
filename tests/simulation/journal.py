"""A journal in memory for the published library: it keeps what was synced, which is nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulation.disk import PowerCut
from simulation.events import Appended

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from simulation.events import Event

Entry = tuple[bytes, int, int]


@dataclass(slots=True)
class Content:
    """What a journal holds: in memory, or on disk for certain."""

    entries: list[Entry] = field(default_factory=list)
    vote: tuple[int, str | None] = (0, None)
    commit: int = 0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def keep_from(self, position: int) -> None:
        del self.entries[:position]

    def keep_to(self, position: int) -> None:
        del self.entries[position:]

    def cast(self, vote: tuple[int, str | None]) -> None:
        self.vote = vote

    def committed(self, index: int) -> None:
        self.commit = index

    def term_at(self, index: int) -> int | None:
        if not self.entries:
            return None
        position = index - self.entries[0][1]
        return self.entries[position][2] if 0 <= position < len(self.entries) else None


class SimulatedJournal:
    """The library's journal over all lives of a node; implements `simulation.subject.Storage`.

    Args:
        write_through: each write is durable at once, which is what a kill leaves of a page cache.
        directory: where the library puts its dumps.
    """

    def __init__(
        self, node: str, record: Callable[[Event], None], directory: str, *, write_through: bool
    ) -> None:
        self.directory = directory
        self._node = node
        self._record = record
        self._write_through = write_through
        self._live, self._disk = Content(), Content()
        self._unsynced: list[tuple[str, Any]] = []
        self._doomed = False

    def _write(self, operation: str, argument: Any) -> None:
        if self._doomed:
            raise PowerCut
        getattr(self._live, operation)(argument)
        self._unsynced.append((operation, argument))
        if self._write_through:
            self._reach_disk(len(self._unsynced))

    def _reach_disk(self, count: int) -> None:
        for operation, argument in self._unsynced[:count]:
            getattr(self._disk, operation)(argument)
        del self._unsynced[:count]

    # -- what the simulation asks ----------------------------------------------------------------

    @property
    def durable_term(self) -> int:
        return self._disk.vote[0]

    def holds_durably(self, index: int, term: int) -> bool:
        entries = self._disk.entries
        if entries and index < entries[0][1]:
            return True
        return self._disk.term_at(index) == term

    def entries(self, first: int, last: int) -> list[Entry]:
        """The oldest entry may be the stub of a snapshot, which has no command."""
        return [entry for entry in self._live.entries[1:] if first <= entry[1] <= last]

    def terms(self) -> tuple[int, tuple[int, ...]]:
        entries = self._live.entries
        return (entries[0][1] if entries else 1), tuple(term for _, _, term in entries)

    def end_process(self, rng: random.Random, *, power: bool) -> None:
        """Keep what was synced, and of the rest as much as recovery finds before the first gap."""
        count = len(self._unsynced)
        self._reach_disk(rng.randint(0, count) if power else count)
        self._unsynced.clear()
        self._doomed = False
        disk = self._disk
        self._live = Content(list(disk.entries), disk.vote, disk.commit)

    def end_soon(self, rng: random.Random) -> None:
        self._doomed = True

    def relent(self) -> None:
        self._doomed = False

    refuses = False

    def refuse_soon(self, rng: random.Random) -> None:
        """The library knows nothing of disks that refuse."""

    def refuse_commands(self, *, refused: bool) -> None: ...

    # -- what pysyncobj asks of a journal --------------------------------------------------------

    def __len__(self) -> int:
        return len(self._live.entries)

    def __getitem__(self, position: Any) -> Any:
        return self._live.entries[position]

    def add(self, command: bytes, index: int, term: int) -> None:
        previous = self._live.term_at(index - 1)
        self._write("add", (command, index, term))
        self._record(Appended(self._node, index, term, previous, command))

    def clear(self) -> None:
        self._write("keep_to", 0)

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 - the library's name
        self._write("keep_to", position)

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        self._write("keep_from", position)

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        if index != self._live.commit:
            self._write("committed", index)

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return max(1, self._live.commit)

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        self._write("cast", (term, voted_for))

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._live.vote[0]

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._live.vote[1]

    def onOneSecondTimer(self) -> None: ...  # noqa: N802

    def close(self) -> None: ...

    def _destroy(self) -> None: ...
